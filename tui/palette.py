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
            yield DiscoveryHit(action.label, self._runner(action), help=_explain(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._actions():
            score = max(matcher.match(action.label), matcher.match(action.help))
            if score > 0:
                shown = matcher.highlight(action.label)
                yield Hit(score, shown, self._runner(action), help=_explain(action))

    def _actions(self) -> list[actions.Action]:
        """Those that can be done now."""
        listed = (action for action in actions.ACTIONS if action.palette)
        return [action for action in listed if self.screen.check_action(action.name, ())]

    def _runner(self, action: actions.Action) -> Callable[[], object]:
        scope = "app" if action.scope == actions.APP else "screen"
        return partial(self.app.run_action, f"{scope}.{action.name}")


def _explain(action: actions.Action) -> str:
    return f"{action.help}  ({action.shown})"
