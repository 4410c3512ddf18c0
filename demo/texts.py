"""Every word of the interface, in English and Chinese.

Labels of components are translated by the visitor's browser (`i18n`), so one server speaks
both languages at once; words made while the app runs come from `say`, which is told the
language. `--lang` fixes both.
"""

from typing import Literal

from demo.chat_words import CHAT_WORDS
from demo.speech_words import SPEECH_WORDS
from demo.task_words import TASK_WORDS

Language = Literal["en", "zh"]

WORDS: dict[str, tuple[str, str]] = {
    # The page
    "title": ("Step-Audio 2", "Step-Audio 2"),
    "tab_asr": ("ASR", "语音识别"),
    "tab_inspect": ("Inspect", "剖析"),
    "tab_about": ("About", "关于"),
    # Header
    "model_loading": ("Loading {name}", "正在加载 {name}"),
    "stage_libraries": ("starting the libraries", "启动程序库"),
    "stage_find": ("finding the files", "查找文件"),
    "stage_download": ("downloading", "下载"),
    "stage_check": ("checking the files", "检查文件"),
    "stage_load": ("reading the weights", "读取权重"),
    "stage_prove": ("proving that it hears", "验证能听到声音"),
    "model_failed": ("The model is not loaded", "模型未能加载"),
    "model_failed_rest": (
        "The page goes on working: saved traces can still be opened under Inspect.",
        "页面其余部分照常可用：仍可在“剖析”中打开已保存的记录。",
    ),
    "model_ready": ("ready", "就绪"),
    "parameters": ("{n} parameters", "{n} 参数"),
    "scripted_title": ("No model is running.", "当前没有运行模型。"),
    "scripted": (
        "This page replays a fixed script for testing. The words below were not recognised from your sound.",
        "本页正在回放测试脚本，下面的文字并非由您的声音识别而来。",
    ),
    # Transcribe
    "sound": ("Your recording", "您的录音"),
    "examples": ("Or try one of these", "或者试试这些例子"),
    "transcribe": ("Transcribe", "转写"),
    "stop": ("Stop", "停止"),
    "raw_microphone": ("Raw microphone", "原始麦克风"),
    "raw_microphone_info": (
        "Keeps the browser from changing the sound: no echo, noise or loudness correction.",
        "不让浏览器改变声音：关闭回声、噪声和音量处理。",
    ),
    "no_microphone": (
        "This browser gives no microphone to a page without https (other than on this machine). Uploading works.",
        "浏览器不允许非 https 页面（本机除外）使用麦克风，但可以上传文件。",
    ),
    "asr_empty_title": ("Say something, in any language the model knows", "说点什么吧，模型会的语言都可以"),
    "asr_empty_1": ("Record or drop a sound file.", "录音，或拖入一个声音文件。"),
    "asr_empty_2": ("Press Transcribe. The words appear as they are found.", "按“转写”，文字会逐字出现。"),
    "asr_empty_3": (
        "Click a word below to hear, and see, the moment it came from.",
        "点击下方的词，听一听、看一看它来自哪一刻。",
    ),
    "open_in_inspect": ("Open in Inspect", "在“剖析”中打开"),
    "view_title": ("Where each word came from", "每个词来自哪里"),
    "copy": ("Copy", "复制"),
    "copied": ("Copied", "已复制"),
    # Phases of a turn
    "phase_starting": ("Getting ready", "准备中"),
    "phase_model": ("The model is still loading; your recording is next.", "模型仍在加载，随后就处理您的录音。"),
    "phase_queued": ("Waiting for another turn to finish", "正在等待前一个任务完成"),
    "phase_listening": ("Listening", "正在聆听"),
    "phase_writing": ("Writing", "正在书写"),
    "phase_looking": ("Looking inside: which sounds each word came from", "正在回看：每个词来自哪段声音"),
    "phase_done": ("Done", "完成"),
    "phase_stopped": ("Stopped", "已停止"),
    "phase_length": ("Cut off at the longest answer allowed", "已达到允许的最大长度"),
    "phase_repetition": ("Stopped because it kept repeating itself", "因不断重复而停止"),
    "phase_failed": ("Did not work", "未能完成"),
    "no_words": ("No words were heard.", "没有听到话语。"),
    # Timings
    "time_sound": ("Sound", "声音"),
    "time_encode": ("Encode", "编码"),
    "time_first": ("First token", "首个词元"),
    "time_speed": ("Speed", "速度"),
    "time_total": ("Total", "总计"),
    "tokens_per_s": ("{n} tokens/s", "{n} 词元/秒"),
    "seconds": ("{n} s", "{n} 秒"),
    "milliseconds": ("{n} ms", "{n} 毫秒"),
    # Notes on a recording
    "note_silent_title": ("This recording is silent", "这段录音没有声音"),
    "note_silent": (
        "Its loudest sample is below -60 dB of full scale. Check that the right microphone is chosen "
        "and not muted, then record again.",
        "最响的采样也低于满幅的 -60 dB。请检查是否选对了麦克风、是否静音，然后重新录制。",
    ),
    "note_quiet": ("The recording is very quiet; the words may be wrong.", "录音音量很低，文字可能有误。"),
    "note_clipped": (
        "The recording is clipped (too loud for the microphone); the words may be wrong.",
        "录音有削波（音量过大），文字可能有误。",
    ),
    # Problems
    "nothing_given_title": ("There is no recording yet", "还没有录音"),
    "nothing_given": ("Record something or choose a file first.", "请先录音或选择一个文件。"),
    "audio_title": ("This sound cannot be used", "无法使用这段声音"),
    "checkpoint_title": ("The model cannot be loaded", "无法加载模型"),
    "memory_title": ("There is not enough memory", "内存不足"),
    "trace_title": ("This trace cannot be opened", "无法打开这份记录"),
    "backend_title": ("The model could not answer", "模型未能作答"),
    "other_title": ("This cannot be done", "无法完成"),
    "disk_title": ("The disk is full", "磁盘已满"),
    "disk": (
        "There is no space left for temporary files. Free some disk space, then try again.",
        "没有空间存放临时文件。请清理磁盘后重试。",
    ),
    "memory": (
        "Try a shorter recording or a smaller model, or close other programs.",
        "请换用更短的录音或更小的模型，或关闭其他程序。",
    ),
    "missing_title": ("A file is missing", "缺少文件"),
    "missing": (
        "{name} was not found. If it was uploaded a while ago, upload it again.",
        "找不到 {name}。若是较早上传的文件，请重新上传。",
    ),
    "unexpected_title": ("Something unexpected went wrong", "发生了意外错误"),
    "unexpected": (
        "The app goes on. The details are in the terminal under the reference {reference}.",
        "应用仍可继续使用。详情见终端，编号 {reference}。",
    ),
    "expired_title": ("This run is gone", "这次运行已不在"),
    "expired": (
        "Runs are kept for {minutes} minutes after they were last looked at. Make a new one, or open a saved trace.",
        "运行结果在最后一次查看后保留 {minutes} 分钟。请重新运行，或打开已保存的记录。",
    ),
    "found": ("Found", "发现"),
    "expected": ("Expected", "应为"),
    # Inspect
    "run": ("Run", "运行"),
    "upload_trace": ("Open trace file", "打开记录文件"),
    "download_trace": ("Save trace file", "保存记录文件"),
    "download_html": ("Save as web page", "保存为网页"),
    "inspect_empty_title": ("Nothing to look at yet", "还没有可看的内容"),
    "inspect_empty_1": (
        "Transcribe a recording first: every run of this session appears here.",
        "先转写一段录音：本次会话的每次运行都会出现在这里。",
    ),
    "inspect_empty_2": (
        "Or open a trace file that you or somebody else saved. No model is needed for that.",
        "或打开自己或他人保存的记录文件，这不需要模型。",
    ),
    "token_hint": (
        "Choose a token to see how sure the model was and where it looked.",
        "选择一个词元，查看模型的把握以及它看向何处。",
    ),
    "token_kind": ("Kind", "类别"),
    "token_id": ("Id", "编号"),
    "token_probability": ("Probability", "概率"),
    "token_entropy": ("Entropy", "熵"),
    "token_shares": ("Where it looked", "注意力去向"),
    "token_shares_info": (
        "Attention of this token, averaged over all layers and heads. It shows where the model looked, "
        "not why it chose the word.",
        "该词元的注意力，在所有层和头上取平均。它说明模型看向哪里，而不是为何选这个词。",
    ),
    "not_measured": ("not measured", "未测量"),
    "run_facts": (
        "{n_reply} reply tokens · {n_frames} audio positions at 12.5 Hz · {n_layers} layers × {n_heads} heads",
        "{n_reply} 个输出词元 · {n_frames} 个 12.5 Hz 音频位置 · {n_layers} 层 × {n_heads} 头",
    ),
    # About
    "about_model": ("The model", "模型"),
    "about_card": ("Model card", "模型卡"),
    "about_none": ("No model is loaded yet.", "尚未加载模型。"),
    "about_name": ("Name", "名称"),
    "about_revision": ("Revision", "版本"),
    "about_device": ("Runs on", "运行于"),
    "about_size": ("Parameters", "参数量"),
    "about_memory": ("Memory", "内存"),
    "about_health": ("Sound reaches the decoder", "声音到达解码器"),
    "about_health_ok": (
        "yes: replacing sound by silence moves the logits by {n}",
        "是：将声音换成静音会使 logits 改变 {n}",
    ),
    "about_health_none": ("not checked", "未检查"),
    "about_abilities": ("Can do", "能力"),
    "ability_text": ("reads and writes text", "读写文字"),
    "ability_audio_in": ("hears", "聆听"),
    "ability_audio_codes": ("writes speech codes", "生成语音编码"),
    "ability_audio_out": ("speaks", "说话"),
    "ability_logprobs": ("tells probabilities", "给出概率"),
    "ability_activations": ("can be looked into", "可以剖析"),
    "about_privacy": ("Privacy", "隐私"),
    "about_privacy_text": (
        "Sound never leaves the machine this app runs on, and nothing is sent anywhere else. Uploads and recordings "
        "are deleted within two hours or when the app ends. Runs stay in memory, for you alone, until you close the "
        "page or {minutes} minutes after you last looked at them.",
        "声音不会离开运行本应用的机器，也不会发送到别处。上传和录音会在两小时内或应用结束时删除。"
        "运行结果只保存在内存中、只对您可见，直到您关闭页面，或最后一次查看后 {minutes} 分钟。",
    ),
    "about_method": ("How attention is measured", "注意力如何测量"),
    "about_method_text": (
        "After the answer is finished, the same tokens are run through the model once more, all at once, and the "
        "attention from every answer token to every audio position (80 ms each) is kept. Attention shows where the "
        "model looked. It does not prove that it used what it saw.",
        "回答完成后，同样的词元会再次一次性通过模型，并保留每个输出词元对每个音频位置（各 80 毫秒）的注意力。"
        "注意力说明模型看向哪里，但并不证明它用到了所看到的内容。",
    ),
}
WORDS |= SPEECH_WORDS | TASK_WORDS | CHAT_WORDS

VIEW_WORDS_ZH = {
    "layer": "层",
    "head": "头",
    "headMean": "各头平均",
    "best": "最佳头",
    "bestHint": "最清晰、最按顺序跟随声音的头",
    "words": "整词",
    "wordsHint": "把一个词的所有词元的注意力相加",
    "scaleRows": "逐词元缩放",
    "scaleRowsHint": "显示每个词元最关注之处；关闭则使用同一尺度",
    "play": "播放",
    "stop": "停止",
    "playSpan": "播放这一刻",
    "zoomIn": "放大",
    "zoomOut": "缩小",
    "fit": "显示全部",
    "tokens": "回答中的词",
    "plot": "同一时间轴上的声音、频谱和注意力",
    "plotKeys": "拖动选择一段，方向键在词间移动，空格播放，Esc 清除，加减键缩放。",
    "overview": "整段声音概览",
    "wave": "声音",
    "mel": "频谱",
    "attention": "注意力",
    "seconds": "秒",
    "emptyTitle": "听听每个词来自哪里",
    "empty1": "给模型一段录音",
    "empty1More": "录音或上传语音，几秒钟就够。",
    "empty2": "看看它听到了什么",
    "empty2More": "文字出现在这里，模型没有把握处带下划线。",
    "empty3": "点击一个词",
    "empty3More": "您会听到它所来自的那一刻，并看到模型还看向哪里。",
    "ready": "点击一个词，听它所来自的那一刻。在声音上拖动，看哪些词关注那里。",
    "noAttention": "这次运行保存时没有注意力，无法从词追溯到声音。",
    "selected": "“{text}”看向 {start}–{end} 秒，中心 {centre} 秒。",
    "selectedBlank": "“{text}”在这里没有看向声音。",
    "brushed": "{start}–{end} 秒：最关注这里的是 {list}。",
    "brushedNone": "{start}–{end} 秒：没有哪个词特别关注这里。",
    "listItem": "“{text}”（{share}%）",
    "loading": "正在加载第 {layer} 层 …",
    "failed": "无法加载第 {layer} 层：{error}",
    "probability": "概率",
    "entropy": "熵",
    "span": "看向",
    "centre": "中心",
    "onSound": "在声音上",
    "nothingSelected": "未选择词",
    "nothingSelectedMore": "点击一个词，或用方向键移动。",
    "headMap": "在听的头",
    "headMapHint": "行：层，列：头；越深越跟随声音",
    "legendSure": "有把握",
    "legendUnsure": "没把握",
    "legendLittle": "无注意力",
    "legendMuch": "最多",
    "table": "同样内容的表格",
    "tableToken": "词元",
    "offsetPredicts": "选出该词元时的注意力",
    "offsetReads": "读入该词元后的注意力",
}
"""The linked view's own words (`LABELS` in analysis/view/data.js) in Chinese; it speaks English by itself."""


class Texts:
    """The interface's words in one language.

    Args:
        language: "en" or "zh".
    """

    def __init__(self, language: Language = "en") -> None:
        self.language = language
        self._column = ("en", "zh").index(language)

    def __call__(self, key: str, **values: object) -> str:
        """Return the words for `key` with `values` filled in (not escaped)."""
        return WORDS[key][self._column].format(**values)


def language_of(setting: str, accept_language: str | None) -> Language:
    """Choose a language: the fixed setting, else the first one the browser asks for that we have."""
    if setting in ("en", "zh"):
        return setting
    for wish in (accept_language or "").split(","):
        code = wish.split(";")[0].strip().lower()[:2]
        if code in ("en", "zh"):
            return code
    return "en"


def columns() -> dict[str, dict[str, str]]:
    """Return all words by language, as the browser's own translation wants them."""
    return {
        language: {key: words[column] for key, words in WORDS.items()} for column, language in enumerate(("en", "zh"))
    }
