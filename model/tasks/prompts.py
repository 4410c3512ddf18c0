"""The texts a model was trained to obey: the only place where a task prompt is written.

They are interface constants: results depend on every character, so they are kept as the official examples
have them and are never paraphrased elsewhere.

Source: the official Step-Audio 2 examples; the English twin of the translation prompt is from there too.
"""

ASR = "请记录下你所听到的语音内容。"
"""System prompt: write down the speech you hear."""
TRANSLATE_TO_ZH = "请仔细聆听这段语音，然后将其内容翻译成中文。"
TRANSLATE_TO_ZH_IN_ENGLISH = "Please listen carefully to this audio and then translate its content into Chinese."
TRANSLATE_TO_ZH_SPOKEN = "请仔细聆听这段语音，然后将其内容翻译成中文并用语音播报。"
TRANSLATE_TO_EN = "请仔细聆听这段语音，然后将其内容翻译成英文。"
TRANSLATE_TO_EN_SPOKEN = "请仔细聆听这段语音，然后将其内容翻译成英文并用语音播报。"
"""The official prompts for the other direction: one word differs."""
CAPTION = "Please briefly explain the important events involved in this audio clip."
CHAT = "You are a helpful assistant."
PARALINGUISTIC = "请用语音与我交流。"
AUDIO_ANALYSIS = (
    "You are an expert in audio analysis, please analyze the audio content and answer the questions accurately."
)
"""System prompt of the multiple-choice questions."""
THINK = "你能听出用户的声音特点，请在思考时描述它们，想好以后再回答。"
"""Short, ours; the official persona of the thinking model says the same in a paragraph."""
TOOLS = "你叫小跃，是一个有同理心的语音助手，需要时可以调用工具。请用默认女声与用户交流。"
"""Short, ours; the official persona says the same in a paragraph. Today's date follows it."""
TOOL_RESULT = "\n\n\n请用口语化形式总结检索结果，简短地回答用户的问题。"
"""Follows the result of a tool in an `input` turn."""
BASE_SPEAK = "以自然的语速读出下面的文字。\n"
"""Base model: the text to read follows, then `<tts_start>`; no roles."""
BASE_TRANSLATE_TO_EN_SPOKEN = "将下面的文本翻译成英文，并用语音播报。\n"


def all_texts() -> tuple[str, ...]:
    """Every prompt, for whoever has to cover them (a tokenizer, a test)."""
    values = ((name, value) for name, value in globals().items() if name.isupper())
    return tuple(value for _, value in values if isinstance(value, str))
