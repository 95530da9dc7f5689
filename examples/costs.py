"""Count and price without a network: per message, per call, with the prompt cache, and for a model nobody knows.

Run it from the root of the repository, after `make demo`: `.venv/bin/python examples/costs.py`
"""

from memory import LLMMessage, TokenTracker, Usage

LETTER = LLMMessage("user", "Please summarise the attached minutes in five sentences. " * 20)


def main() -> None:
    tracker = TokenTracker()

    print("One message, counted for three families:")
    # Claude's and Gemini's tokenizers are not public: a factor stands for them, until responses calibrate it.
    for provider, model in (
        ("openai", "gpt-4o"),
        ("anthropic", "claude-3-5-sonnet-20241022"),
        ("gemini", "gemini-1.5-pro"),
    ):
        print(f"  {model:28} {tracker.count_message_tokens(LETTER, provider, model):5} tokens")

    print("\n20,000 tokens in, 1,000 out; and with 18,000 of them from the prompt cache:")
    for model in ("gpt-4o", "gpt-4o-mini", "claude-3-5-sonnet-20241022", "gemini-1.5-flash"):
        cost = tracker.calculate_cost(model, input_tokens=20_000, output_tokens=1_000)
        warm = tracker.calculate_cost(model, input_tokens=20_000, output_tokens=1_000, cache_read_tokens=18_000)
        print(f"  {model:28} ${cost:.5f}, from the cache ${warm:.5f}")

    print("\nA run, booked call by call:")
    tracker.record(Usage(input_tokens=12_000, output_tokens=700, cache_read_tokens=8_000), model="gpt-4o")
    tracker.record(Usage(input_tokens=3_000, output_tokens=400), model="gpt-4o-mini", purpose="summary")
    print(f"  ${tracker.total_cost:.5f}, of which summaries ${tracker.compression_cost:.5f}")
    print(f"  estimated: {tracker.cost_is_estimate}")

    tracker.record(Usage(input_tokens=1_000, output_tokens=100), model="a-model-of-our-own")
    print("\nA model without a known price is priced by default, and marked:")
    print(f"  ${tracker.total_cost:.5f}, estimated: {tracker.cost_is_estimate}, unpriced: {tracker.unpriced_tokens}")


if __name__ == "__main__":
    main()
