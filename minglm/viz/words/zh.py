"""The sentences of en.py in Chinese."""

RULES = {
    "part_a": {"open": True, "code": "j < part_a_len", "meaning": "每一行都看得到整个 {A}"},
    "past": {"open": True, "code": "part_a_len <= j <= i", "meaning": "{B} 看得到自己和前面的内容"},
    "answers": {"open": False, "code": "i < part_a_len <= j", "meaning": "{A} 看不到 {B}"},
    "future": {"open": False, "code": "part_a_len <= i < j", "meaning": "{B} 看不到后面的内容"},
}

CELL = (
    "“{query}”（第 {i} 行）{may}“{key}”（第 {j} 行）：{because}。"
    "第 {i} 行看得到前 max({part_a_len}, {i} + 1) = {n} 个 key，第 {j} 个{among}其中。"
)
BECAUSE = {
    "AA": "两者都在 {A} 里，左右都看得到",
    "BA": "{B} 看得到整个 {A}",
    "BE": "“{key}”所在的{span}在 {B} 里排在前面",
    "BS": "“{key}”在同一个{span}里排在前面",
    "self": "每一行都看得到自己",
    "AB": "{A} 看不到 {B}，否则会把答案带回去",
    "BF": "“{key}”所在的{span}在 {B} 里排在后面，还没写出来",
    "BF same": "“{key}”在同一个{span}里排在后面，还没写出来",
}
MEANING = {
    "AA": "{A} 看得到整个 {A}，左右都行",
    "BA": BECAUSE["BA"],
    "BE": "{B} 看得到 {B} 里排在前面的{span}",
    "BS": "……也看得到同一个{span}里前面的 token",
    "self": "……还有它自己",
}
HIDDEN_MEANING = {"AB": RULES["answers"]["meaning"], "BF": RULES["future"]["meaning"]}
MAY = {True: "可以看", False: "不能看"}
AMONG = {True: "在", False: "不在"}

STEPS = {
    "glm": [
        ("tokens", "原文：{text}。"),
        ("spans", "选中要挖掉的：{spans}，占 {text} 中的 {blanked} 个。"),
        ("masks", "Part A 是挖空后的文本，每个片段无论多长都只留一个 {mask}：{part_a}。"),
        ("order", "Part B 是挖掉的片段，顺序打乱。这里的顺序：{order}。"),
        (
            "pieces",
            "每个片段以 {sop} 开头，Part B 的每一行都要学会说出下一个 token；片段以 {eop} 结束。",
        ),
        (
            "positions",
            "第一个位置说的是哪个空：Part B 的一行用的是它那个片段的 {mask} 的位置。",
        ),
        (
            "block positions",
            "第二个位置说的是片段里的第几个：{sop} 是 1，然后是 2、3……；在 Part A 里都是 0。",
        ),
        (
            "mask",
            "第 i 行看得到前 max({part_a_len}, i + 1) 个 key：整个 Part A，以及 Part B 里到自己为止的部分。",
        ),
    ],
    "others": [
        ("tokens", "原文：{text}。"),
        ("spans", "选中要挖掉的：{spans}，占 {text} 中的 {blanked} 个。"),
        ("input", "{name} 读到的：{input}。"),
        ("targets", "它要学会：{predicts}。"),
        ("positions", "位置：{positions}。"),
        ("mask", "第 i 行看得到前 max({part_a_len}, i + 1) 个 key：{sees}。"),
    ],
}

STEP_NAMES = {
    "tokens": "原文",
    "spans": "片段",
    "masks": "掩码 token",
    "order": "顺序",
    "pieces": "开头和结尾",
    "positions": "位置",
    "block positions": "片段内位置",
    "mask": "掩码",
    "input": "输入",
    "targets": "标签",
}

MODELS = {
    "glm": {
        "name": "GLM",
        "A": "Part A",
        "B": "Part B",
        "span": "片段",
        "input": "文本，每个片段换成一个 [M]，后面接上打乱顺序的片段",
        "sees": "Part A 看得到 Part A；Part B 看得到 Part A 和自己前面的内容",
        "positions": "哪个空，空里的第几个",
        "predicts": "各个片段，逐个 token，长度和顺序都不限",
        "cannot": "从 Part A 的 token 里学习：它们只被读，不被预测",
    },
    "bert": {
        "name": "BERT",
        "A": "文本",
        "B": "无",
        "span": "文本",
        "input": "文本，每个挖掉的 token 各换成一个 [M]",
        "sees": "谁都看得到谁",
        "positions": "0、1、2……",
        "predicts": "挖掉的 token，互相看不到",
        "cannot": "填长度未知的空（[M] 的个数已经说出长度），也不能续写",
    },
    "gpt": {
        "name": "GPT",
        "A": "无",
        "B": "文本",
        "span": "文本",
        "input": "文本本身",
        "sees": "每个 token 看得到自己和前面的内容",
        "positions": "0、1、2……",
        "predicts": "每个位置的下一个 token",
        "cannot": "看到空右边的内容",
    },
    "prefix": {
        "name": "前缀 LM",
        "A": "上文",
        "B": "续写",
        "span": "续写",
        "input": "文本本身：第一个空之前是上文",
        "sees": "上文看得到上文，续写还看得到自己前面的内容",
        "positions": "0、1、2……",
        "predicts": "续写，逐个 token",
        "cannot": "看到空右边的内容，也不能从上文里学习",
    },
    "unilm": {
        "name": "UniLM",
        "A": "S1",
        "B": "S2",
        "span": "段",
        "input": "S1 [EOS] S2 [EOS]，S2 里挖掉的 token 换成 [M]",
        "sees": "S1 看得到 S1；S2 看得到 S1 和自己前面的内容",
        "positions": "0、1、2……，以及段的编号",
        "predicts": "S2 里挖掉的 token",
        "cannot": "填长度未知的空；续写时没有训练时见过的 [M]",
    },
    "t5": {
        "name": "T5",
        "A": "编码器",
        "B": "解码器",
        "span": "片段",
        "input": "编码器：每个片段换成一个哨兵；解码器：各个片段，以自己的哨兵开头",
        "sees": "编码器看得到编码器；解码器看得到编码器和自己前面的内容",
        "positions": "相对距离，编码器和解码器各算各的",
        "predicts": "各个片段，按原文的顺序",
        "cannot": "从位置看出在填哪个空：每个片段都要有自己的哨兵",
    },
}

STORY = {
    "spans": "从 {text} 里挖掉 {blanked} 个。",
    "part_b": "Part B：挖掉的词{order}；每个空以 [S] 开头。",
    "part_a": "Part A：每个空无论多长，都只留一个 {mask}。",
    "positions": "两个位置：哪个空，空里的第几个。",
    "rows_a": "Part A 看得到整个 Part A。",
    "rows_b": "Part B 看得到 Part A 和自己前面的内容，学着说出下一个 token。",
    "home": "每个空以 [E] 结束，词回到原处。",
    "end": "整个掩码就是一个数：Part A 的长度，{part_a}。",
}
