"""Words of the tabs that put a task to the model, in English and Chinese: part of `WORDS` in demo/texts.py."""

TASK_WORDS: dict[str, tuple[str, str]] = {
    "tab_translation": ("Translation", "翻译"),
    "tab_paralinguistics": ("Paralinguistics", "副语言"),
    # What the loaded model was trained for
    "task_asr": ("speech recognition", "语音识别"),
    "task_translation": ("translation", "翻译"),
    "task_paralinguistics": ("questions about a voice", "关于声音的提问"),
    "task_audio_questions": ("questions about any sound", "关于各种声音的提问"),
    "task_chat": ("conversation", "对话"),
    "task_tts": ("reading aloud", "朗读"),
    "task_thinking": ("thinking before it answers", "先思考再回答"),
    "task_tool_calls": ("using tools", "使用工具"),
    "untrained_title": ("This model never learned this", "此模型没有学过这项任务"),
    "untrained": (
        "{name} was trained for: {tasks}. You can still ask; what comes back shows what an untrained model does, "
        "not what the task can give.",
        "{name} 的训练任务为：{tasks}。您仍然可以提问，但结果只说明未经训练的模型会怎样，而不是这项任务能做到什么。",
    ),
    # Translation
    "translate": ("Translate", "翻译"),
    "direction": ("Direction", "方向"),
    "to_zh": ("English to Chinese", "英语译成中文"),
    "to_en": ("Chinese to English", "中文译成英语"),
    "with_source": ("Show what was said", "显示原话"),
    "with_source_info": (
        "The same model writes down the recording as well, after it has translated.",
        "翻译之后，同一个模型再把录音转写下来。",
    ),
    "spoken_translation": ("Speak the translation", "朗读译文"),
    "spoken_translation_info": (
        "The model says it in its own voice, while it is still translating.",
        "模型边翻译边用自己的声音说出来。",
    ),
    "said_in_en": ("Said, English", "原话（英语）"),
    "said_in_zh": ("Said, Chinese", "原话（中文）"),
    "translated_to_en": ("Translation, English", "译文（英语）"),
    "translated_to_zh": ("Translation, Chinese", "译文（中文）"),
    "source_waits": ("Written down after the translation.", "译完后再转写。"),
    "translation_empty_title": ("Say it in one language, read it in the other", "用一种语言说，用另一种语言读"),
    "translation_empty_1": (
        "Choose the direction, then record or drop a sound file.",
        "选择方向，然后录音或拖入声音文件。",
    ),
    "translation_empty_2": (
        "Press Translate. The model translates the sound itself; no transcript stands in between.",
        "按“翻译”。模型直接翻译声音，中间没有转写这一步。",
    ),
    "translation_empty_3": (
        "Click a word of the translation to hear the moment it came from: order often differs between the languages.",
        "点击译文中的词，听它来自哪一刻：两种语言的语序常常不同。",
    ),
    # Paralinguistics
    "ask_all": ("Ask all eleven", "十一项全问"),
    "ask_language": ("Language of questions and answers", "问答语言"),
    "ask_in_en": ("English", "英语"),
    "ask_in_zh": ("Chinese", "中文"),
    "survey_progress": ("{n} of {total}", "已问 {n} 项，共 {total} 项"),
    "survey_empty_title": ("How was it said, by whom, and where?", "怎么说的，谁说的，在哪里说的？"),
    "survey_empty_1": ("Record a few seconds, with or without words.", "录几秒钟，有没有话语都可以。"),
    "survey_empty_2": (
        "Press the button: the model is asked eleven questions about the same sound, each on its own.",
        "按下按钮：模型会就同一段声音分别回答十一个问题。",
    ),
    "survey_empty_3": (
        "Each answer comes with the probability of every label it could have given. Compare with the curves of the "
        "sound, which no model has touched.",
        "每个回答都附有它可能给出的每个标签的概率。可与声音的曲线对照，曲线与模型无关。",
    ),
    "dimension_gender": ("Gender", "性别"),
    "dimension_age": ("Age", "年龄"),
    "dimension_timbre": ("Timbre", "音色"),
    "dimension_scenario": ("Scene", "场景"),
    "dimension_event": ("Sound event", "声音事件"),
    "dimension_emotion": ("Emotion", "情绪"),
    "dimension_pitch": ("Pitch", "音高"),
    "dimension_rhythm": ("Rhythm", "节奏"),
    "dimension_speed": ("Speed", "语速"),
    "dimension_style": ("Style", "说话方式"),
    "dimension_vocal": ("Vocal sound", "人声音效"),
    "no_label": ("no label named", "没有说出标签"),
    "differs": (
        "Said {said}; the most likely candidate is {likely}.",
        "说的是“{said}”；概率最高的候选是“{likely}”。",
    ),
    "more_labels": ("{n} more", "另外 {n} 个"),
    "covered": ("Candidates cover {share} of all it could say", "候选占所有可能回答的 {share}"),
    "covered_info": (
        "Probability that the whole answer is one of the candidate sentences. Far below 1 %, the bars compare "
        "sentences that the model would hardly say.",
        "整句回答恰为某个候选句的概率。若远低于 1%，各条只是在比较模型几乎不会说的句子。",
    ),
    "no_probabilities": ("This backend gives no probabilities of candidates.", "此后端不提供候选概率。"),
    "inspect_one": ("Inspect", "剖析"),
    "inspect_this": ("Inspect the answer about {dimension}", "剖析关于{dimension}的回答"),
    "waiting_dimension": ("waiting", "等待中"),
    "phase_asking": ("Asking", "正在提问"),
    "phase_weighing": ("Weighing the candidates", "正在比较候选"),
    "phase_looking_short": ("Looking inside", "正在剖析"),
    "survey_save_csv": ("Save table (CSV)", "保存表格（CSV）"),
    "survey_save_json": ("Save everything (JSON)", "保存全部（JSON）"),
    "survey_save_curves": ("Save curves (CSV)", "保存曲线（CSV）"),
    "curves_title": ("What the sound itself shows", "声音本身的样子"),
    "curves_label": (
        "Waveform, pitch, loudness and speaking rate on one time axis",
        "同一时间轴上的波形、音高、响度和语速",
    ),
    "lane_sound": ("sound", "声音"),
    "lane_pitch": ("pitch (Hz)", "音高（赫兹）"),
    "lane_loudness": ("loudness (dB)", "响度（分贝）"),
    "lane_rate": ("rate (per s)", "语速（每秒）"),
    "lane_time": ("s", "秒"),
    "curve_pitch": ("Pitch", "音高"),
    "curve_pitch_value": ("{hz} Hz, over {range} semitones", "{hz} 赫兹，跨 {range} 个半音"),
    "curve_rate": ("Rate", "语速"),
    "curve_rate_value": ("{n} syllables/s", "{n} 音节/秒"),
    "curve_loudness": ("Loudness", "响度"),
    "curve_loudness_value": ("{n} dB", "{n} 分贝"),
    "curve_voiced": ("Voiced", "有声"),
    "curve_voiced_value": ("{n} of the time", "占 {n}"),
    "survey_method": ("How this is measured, and its limits", "如何测量，有何局限"),
    "survey_method_text": (
        "**The answer** is what the model says to one fixed question for each dimension, the sound first, greedily. "
        "The label in large type is read off that answer by the rules of the benchmark.\n\n"
        "**The bars** are the model's own probabilities. Every candidate label is put into one fixed sentence (“The "
        "speaker sounds happy.”), and all sentences are scored in one pass without being generated. The bars are those "
        "probabilities divided by their sum; the sum itself is given below them. Another wording would give somewhat "
        "other numbers, so read them as an order and a rough size, not to the last percent.\n\n"
        "**The curves** come from the samples alone. Pitch is found by the YIN method between 60 and 500 Hz and means "
        "little for music, noise or two voices at once. Loudness is the root mean square over 25 ms. The rate counts "
        "peaks of loudness in voiced sound, which are close to syllables in clear speech.\n\n"
        "**Limits.** A label is a guess about a sound, never a fact about a person. A high probability says that the "
        "model is sure, not that it is right. Do not use it to judge anybody.",
        "**回答** 是模型对每一项的一个固定问题所说的话：先听声音，再用贪心解码作答。"
        "大字标签按基准测试的规则从回答中读出。\n\n"
        "**条形** 是模型自己的概率。每个候选标签都放进同一个固定句式（如“说话人听起来很高兴。”），"
        "所有句子一次性打分而不必生成。条形是这些概率除以它们的总和，总和列在下方。"
        "换一种句式，数字会有些不同，因此应看次序和大致大小，而不是最后一个百分点。\n\n"
        "**曲线** 只来自采样本身。音高用 YIN 方法在 60 到 500 赫兹之间求得，对音乐、噪声或两人同时说话意义不大。"
        "响度是 25 毫秒的均方根。语速统计有声部分的响度峰，在清晰的语音中接近音节数。\n\n"
        "**局限** ：标签是对声音的猜测，绝不是关于某个人的事实。概率高说明模型有把握，不说明它正确。"
        "请勿用来评判任何人。",
    ),
}
