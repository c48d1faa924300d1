"""``train``: what was asked, which host it goes to, and how it gets there.

::

    request ──▶ probe ──▶ placement ──▶ submission
    script,     all hosts  which host,   image, code,
    launcher    at once    and why       job
"""
