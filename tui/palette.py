"""The command palette, made from the action table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui import actions


class ActionProvider(Provider):
    """The palette's commands: the action table."""

    async def discover(self) -> Hits:
        for action in self._actions():
            yield DiscoveryHit(action.help, self._runner(action), help=action.shown)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            score = matcher.match(action.help)
            if score > 0:
                shown = matcher.highlight(action.help)
                yield Hit(score, shown, self._runner(action), help=action.shown)

    def _actions(self) -> list[actions.Action]:
        """Those that can be done now."""
        listed = (action for action in actions.ACTIONS if action.palette)
        return [action for action in listed if self.screen.check_action(action.name, ())]

    def _runner(self, action: actions.Action) -> Callable[[], object]:
        scope = "app" if action.scope == actions.APP else "screen"
        return partial(self.app.run_action, f"{scope}.{action.name}")
