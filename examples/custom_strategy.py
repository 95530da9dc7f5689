"""Say what must stay word for word: override `_should_preserve`, and choose the `selective` strategy.

Run it from the root of the repository, after `make demo`: `.venv/bin/python examples/custom_strategy.py`
"""

from memory import CompressionStrategy, LLMMessage, MemoryConfig, MemoryManager, WorkingMemoryCompressor


class KeepsPrices(WorkingMemoryCompressor):
    """Keeps every message that names a price, besides what the built-in rules keep."""

    def _should_preserve(self, message: object) -> bool:
        return "EUR" in str(message) or super()._should_preserve(message)


CONFIG = MemoryConfig(
    max_context_tokens=4_000,
    compression_threshold=2_000,
    short_term_size=4,
    compression_strategy=CompressionStrategy.SELECTIVE,
)


def talk(memory: MemoryManager) -> None:
    """Hold a conversation of forty messages with two prices in it, and little else."""
    memory.add_message_sync(LLMMessage("user", "Help me to plan a trip along the coast."))
    for number in range(20):
        said = f"Stop {number}: the village has a harbour, a small museum and a bakery. " * 12
        if number in (3, 8):
            said = f"The ferry at stop {number} costs {number * 9} EUR."
        memory.add_message_sync(LLMMessage("assistant", said))
        memory.add_message_sync(LLMMessage("user", f"And after stop {number}?"))


def main() -> None:
    for compressor in (WorkingMemoryCompressor(config=CONFIG), KeepsPrices(config=CONFIG)):
        memory = MemoryManager(CONFIG, compressor=compressor)
        talk(memory)
        context = memory.get_context_for_llm()
        prices = [message.content for message in context if message.content.startswith("The ferry")]
        stats = memory.get_stats()
        print(f"{type(compressor).__name__}: {stats['compression_count']} compressions, {len(context)} messages left")
        print("  kept word for word:", *prices or ["no price"], sep="\n    ")


if __name__ == "__main__":
    main()
