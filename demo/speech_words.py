"""Words of the Speech tab, the player and the spoken view, in English and Chinese: part of `WORDS` in demo/texts.py."""

SPEECH_WORDS: dict[str, tuple[str, str]] = {
    "tab_speech": ("Speech", "语音合成"),
    "speech_text": ("Text to read", "要朗读的文字"),
    "speech_text_info": ("A sentence or two, at most 300 characters.", "一两句话，最多 300 个字符。"),
    "speech_source": ("Voice", "声音"),
    "speech_builtin": ("Built-in", "内置声音"),
    "speech_own": ("From a recording", "来自录音"),
    "speech_voice": ("Built-in voice", "内置声音"),
    "speech_auto": ("Suits the language of the text", "与文字的语言相符"),
    "speech_own_info": (
        "3 to 15 s of one person speaking, without noise or music. It stays on this machine and is forgotten with it.",
        "一个人说话 3 至 15 秒，无噪声和音乐。录音只留在本机，随后即被遗忘。",
    ),
    "speech_consent": (
        "This is my voice, or its owner has agreed to this use. I will not use it to deceive anybody.",
        "这是我自己的声音，或声音的主人已同意这样使用。我不会用它欺骗任何人。",
    ),
    "speech_seed": ("Seed", "随机种子"),
    "speak": ("Speak", "朗读"),
    "speech_empty_title": ("Write something to hear", "写点什么来听"),
    "speech_empty_1": ("Type a sentence in English or Chinese.", "输入一句中文或英文。"),
    "speech_empty_2": ("Choose a voice, or record one that you may use.", "选择一个声音，或录一段您可以使用的声音。"),
    "speech_empty_3": ("Press Speak. The sound starts while the rest is still being made.", "按“朗读”，边生成边播放。"),
    "speech_no_sound": (
        "The model wrote no speech codes for this text, so there is nothing to hear.",
        "模型没有为这段文字生成语音编码，因此没有声音。",
    ),
    "speech_no_voice_title": ("This model cannot speak", "此模型不会说话"),
    "speech_no_voice": (
        "Its checkpoint has no voice: a folder “token2wav” with the networks that turn speech codes into sound is "
        "missing. Choose a checkpoint that has one to use this tab.",
        "它的检查点没有语音部分：缺少把语音编码变成声音的“token2wav”文件夹。换用带有该文件夹的检查点即可使用本页。",
    ),
    "speech_no_voices": (
        "It has no built-in voice, and not the networks that make a voice of a recording.",
        "它没有内置声音，也没有用录音制作声音所需的网络。",
    ),
    "speech_loading": ("The model is still loading. You can write already.", "模型仍在加载，您可以先写文字。"),
    "speech_nothing_title": ("There is nothing to read", "没有可读的内容"),
    "speech_nothing": ("Write a text with at least one word first.", "请先写下至少一个词。"),
    "speech_too_long_title": ("This text is too long", "文字过长"),
    "speech_too_long": (
        "It has {n} characters; at most {most} are read at once.",
        "共 {n} 个字符，一次最多朗读 {most} 个。",
    ),
    "speech_no_recording": (
        "Record the voice to speak with, or choose a file.",
        "请录下要使用的声音，或选择一个文件。",
    ),
    "speech_no_consent_title": ("Please confirm that you may use this voice", "请确认您可以使用这个声音"),
    "speech_no_consent": (
        "A copied voice can be taken for the person. Tick the box under the recording if it is yours or its owner "
        "has agreed.",
        "仿制的声音可能被当作本人。若这是您的声音或主人已同意，请勾选录音下方的选项。",
    ),
    "phase_voice": ("Preparing the voice", "正在准备声音"),
    "phase_speaking": ("Speaking", "正在朗读"),
    "time_first_sound": ("First sound", "首个声音"),
    "time_spoken": ("Speech", "语音"),
    "time_codes": ("Codes", "编码"),
    "time_sound_made": ("Codes to sound", "编码变声音"),
    "time_real_time": ("Real-time factor", "实时率"),
    # Player
    "player_play": ("Play", "播放"),
    "player_pause": ("Pause", "暂停"),
    "player_stop": ("Stop", "停止"),
    "player_download": ("Download WAV", "下载 WAV"),
    "player_position": ("Position", "位置"),
    "player_waiting": ("Waiting for more sound", "等待更多声音"),
    "player_blocked": ("Press Play to hear it", "按播放即可收听"),
    "player_file": ("speech", "语音"),
}

SPOKEN_WORDS_ZH = {
    "spokenPlot": "同一时间轴上的文字、语音编码、频谱和声音：{n} 个编码，{seconds} 秒",
    "spokenWords": "文字",
    "spokenCodes": "编码",
    "spokenMel": "频谱",
    "spokenWave": "声音",
    "spokenCode": "编码 {code}",
    "seconds": "秒",
}
"""The spoken view's own words (`SPOKEN_LABELS` in analysis/view/spoken.js) in Chinese."""
