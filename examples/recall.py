"""Nothing is lost: what a compression takes out is archived first, found by words, and given back as it was.

Run it from the root of the repository, after `make demo`: `.venv/bin/python examples/recall.py`
"""

from memory import LLMMessage, MemoryConfig, MemoryManager


def main() -> None:
    memory = MemoryManager(MemoryConfig(max_context_tokens=4_000, compression_threshold=1_500, short_term_size=4))
    memory.add_message_sync(LLMMessage("user", "Take notes while I read out the inventory."))
    secret = LLMMessage("user", "Shelf 12 holds the spare rotor, serial QX-4471-B, checked in May.")
    for shelf in range(60):
        said = LLMMessage("user", f"Shelf {shelf} holds {shelf * 3} boxes of ordinary parts, nothing to add.")
        memory.add_message_sync(secret if shelf == 12 else said)
        memory.add_message_sync(LLMMessage("assistant", f"Noted shelf {shelf}."))

    context = memory.get_context_for_llm()
    stats = memory.get_stats()
    print(f"{stats['message_count']} messages came, {len(context)} are in the context, {len(memory.archive)} archived.")
    print(f"The message about the rotor is in the context: {secret in context}")

    print("\nrecall('spare rotor'):")
    for hit in memory.recall("spare rotor", limit=2):
        print(f"  {hit.ref:4} {hit.score:5.1f}  {hit.excerpt}")

    best = memory.recall("QX-4471-B")[0]
    print(f"\noriginal({best.ref!r}) is the very object that was added: {memory.original(best.ref) is secret}")


if __name__ == "__main__":
    main()
