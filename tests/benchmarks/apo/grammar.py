"""The prompts of the simulated worlds: which lines of them count, and how one is written. Knows no world and no model.

Only lines of three shapes between `# POLICY` and `# END POLICY` mean anything to the simulated agent:

    - When a request needs visa, answer amber.
    - For north and east site requests that need visa, answer cobalt.
    - For REQUEST 17, visa is fern.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

BEGIN, END = "# POLICY", "# END POLICY"
PLACEHOLDER = "{request}"
_BLOCK = re.compile(rf"^{BEGIN}$.*?^{END}$", re.DOTALL | re.MULTILINE)
_GENERAL = re.compile(r"^\s*[-*\d.]*\s*When a request needs (\w+), answer (\w+)\.")
_AT_SITES = re.compile(r"^\s*[-*\d.]*\s*For (\w+(?: and \w+)*) site requests that need (\w+), answer (\w+)\.")
_FACT = re.compile(r"^\s*[-*\d.]*\s*For REQUEST (\w+), (\w+) is (\w+)\.")


@dataclass(frozen=True)
class Rule:
    """What a line says.

    Attributes:
        need: What it is about.
        code: The answer.
        sites: Where it holds; empty: everywhere.
        request: The one request that it is about, if it is a fact and no rule.
    """

    need: str
    code: str
    sites: tuple[str, ...] = ()
    request: str = ""

    def __str__(self) -> str:
        if self.request:
            return f"- For REQUEST {self.request}, {self.need} is {self.code}."
        if self.sites:
            return f"- For {' and '.join(self.sites)} site requests that need {self.need}, answer {self.code}."
        return f"- When a request needs {self.need}, answer {self.code}."

    def meets(self, other: "Rule") -> bool:
        """Whether both may be about the same thing, so that one would replace the other."""
        if self.need != other.need or self.request != other.request or bool(self.sites) != bool(other.sites):
            return False
        return not self.sites or bool(set(self.sites) & set(other.sites))


@dataclass(frozen=True)
class Policy:
    """What is in a prompt.

    Attributes:
        rules: By need, those that hold for more than one request.
        lines: How many lines there are in all, prose and sentinels included.
        has_request: Whether the placeholder is there.
        is_found: Whether the two sentinels are.
    """

    rules: dict[str, tuple[Rule, ...]]
    facts: dict[tuple[str, str], tuple[Rule, ...]]
    lines: int
    has_request: bool
    is_found: bool

    def codes(self, need: str, site: str, request: str) -> list[str]:
        """What the prompt says about a need: all of the narrowest lines about it, though they contradict each other."""
        if facts := self.facts.get((request, need)):
            return [fact.code for fact in facts]
        rules = self.rules.get(need, ())
        local = [rule.code for rule in rules if site in rule.sites]
        return local or [rule.code for rule in rules if not rule.sites]


def rule_of(line: str) -> Rule | None:
    """What a line says. None: nothing that counts."""
    if found := _GENERAL.match(line):
        return Rule(found[1], found[2])
    if found := _AT_SITES.match(line):
        return Rule(found[2], found[3], tuple(found[1].split(" and ")))
    if found := _FACT.match(line):
        return Rule(found[2], found[3], request=found[1])
    return None


def block_of(text: str) -> str | None:
    """The first prompt in a text, sentinels included."""
    found = _BLOCK.search(text)
    return found[0] if found else None


@lru_cache(maxsize=4096)
def policy_of(prompt: str) -> Policy:
    """Read a prompt."""
    block = block_of(prompt)
    rules: dict[str, list[Rule]] = {}
    facts: dict[tuple[str, str], list[Rule]] = {}
    for line in (block or "").splitlines():
        if (rule := rule_of(line)) is None:
            continue
        if rule.request:
            facts.setdefault((rule.request, rule.need), []).append(rule)
        else:
            rules.setdefault(rule.need, []).append(rule)
    return Policy(
        rules={need: tuple(said) for need, said in rules.items()},
        facts={about: tuple(said) for about, said in facts.items()},
        lines=sum(bool(line.strip()) for line in prompt.splitlines()),
        has_request=PLACEHOLDER in prompt,
        is_found=block is not None,
    )


def write(rules: list[Rule], prose: tuple[str, ...]) -> str:
    """A prompt of some prose and these rules."""
    return "\n".join([BEGIN, *prose, *map(str, rules), END])
