// SPDX-License-Identifier: GPL-2.0 OR MIT
/* A real kernel module that drives nothing: it has the name, the version, the alias and the
 * /proc file of NVIDIA's, and as that one it does not load while nouveau holds the GPU. */
#include <linux/errno.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/namei.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#define DIRECTORY "driver/nvidia"

static int show_version(struct seq_file *file, void *data)
{
	seq_printf(file, "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  "
		   "Release Build  (SIMULATED)\n", DRIVER_VERSION);
	return 0;
}

static bool nouveau_is_loaded(void)
{
	struct path path;

	if (kern_path("/sys/module/nouveau", 0, &path) != 0)
		return false;
	path_put(&path);
	return true;
}

static int __init nvidia_init(void)
{
	if (nouveau_is_loaded()) {
		pr_err("NVRM: The NVIDIA probe routine was not called for 1 device(s). (SIMULATED)\n");
		pr_err("NVRM: This can occur when another driver was loaded and obtained ownership "
		       "of the NVIDIA device(s), such as nouveau. (SIMULATED)\n");
		pr_err("NVRM: No NVIDIA devices probed. (SIMULATED)\n");
		return -ENODEV;
	}
	if (!proc_mkdir(DIRECTORY, NULL))
		return -ENOMEM;
	if (!proc_create_single(DIRECTORY "/version", 0444, NULL, show_version)) {
		remove_proc_subtree(DIRECTORY, NULL);
		return -ENOMEM;
	}
	pr_info("NVRM: loading NVIDIA UNIX Open Kernel Module %s (SIMULATED)\n", DRIVER_VERSION);
	return 0;
}

static void __exit nvidia_exit(void)
{
	remove_proc_subtree(DIRECTORY, NULL);
}

module_init(nvidia_init);
module_exit(nvidia_exit);
MODULE_ALIAS("pci:v000010DEd*sv*sd*bc03sc02i00*");
MODULE_DESCRIPTION("SIMULATED nvidia module of a rigup practice guest");
MODULE_LICENSE("Dual MIT/GPL");
MODULE_VERSION(DRIVER_VERSION);
