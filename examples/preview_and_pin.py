"""Look at the next compression before it happens, pin a message that it would take, and carry it out.

Run it from the root of the repository, after `make demo`: `.venv/bin/python examples/preview_and_pin.py`
"""

from textwrap import shorten

from memory import LLMMessage, MemoryConfig, MemoryManager, StalePlanError


def fill(memory: MemoryManager) -> LLMMessage:
    """Add a short conversation and return the message that must not be lost."""
    rule = LLMMessage("assistant", "Agreed: the release is on 3 March, and the old API stays until then.")
    memory.add_message_sync(LLMMessage("user", "Plan the release."))
    memory.add_message_sync(rule)
    for number in range(8):
        memory.add_message_sync(LLMMessage("user", f"What about part {number}?"))
        memory.add_message_sync(LLMMessage("assistant", f"Part {number} needs a review and a changelog entry. " * 20))
    return rule


def show(memory: MemoryManager) -> None:
    plan = memory.preview()
    print(f"{plan.tokens_before:,} -> about {plan.tokens_after:,} tokens")
    for decision in plan.decisions[:4]:
        first = decision.unit.entries[0]
        print(f"  {first.ref:4} {decision.action:10} {decision.tokens_before:5,} tokens  ({decision.reason})")
    print(f"  ... and {len(plan.decisions) - 4} more\n")


def main() -> None:
    memory = MemoryManager(MemoryConfig(short_term_size=4))
    rule = fill(memory)
    print("The plan:")
    show(memory)

    stale = memory.preview()
    memory.pin(rule)
    print("The plan with the agreement pinned:")
    show(memory)

    try:
        memory.apply_sync(stale)
    except StalePlanError as error:
        print(f"A plan made before the pin is refused:\n  {error}\n")

    memory.apply_sync(memory.preview())
    print("Carried out; the context now:")
    for message in memory.get_context_for_llm():
        print(f"  {message.role}: {shorten(message.content.splitlines()[0], 65)}")
    assert rule in memory.get_context_for_llm()


if __name__ == "__main__":
    main()
