"""The story of the page in Chinese. Its sentence stays English: the bundled model has read only English."""

from .en_story import CHAPTERS as ENGLISH

CHAPTERS = {
    "text": ENGLISH["text"],
    "spans": ENGLISH["spans"],
    "order": ENGLISH["order"],
    "blank": ENGLISH["blank"],
    "full_stop": ENGLISH["full_stop"],
    "chapters": ["猜一猜", "挖空", "谁能看", "两个位置", "填空"],
    "frames": [
        ["ask", 0, "句子里少了一个词。是什么词？（例句用英文，因为页面里的模型只读过英文。）"],
        [
            "answer",
            0,
            "是“fly”，因为后面说的是“in the sky”（在天上）。GLM 也是这样做的：空的两边都读，"
            "再把缺的内容逐个 token 写出来。",
        ],
        ["spans", 1, "模型怎么学会这件事？随便拿一段文本，从中选几个片段。"],
        ["part_a", 1, "把它们挖掉。每个片段无论多长，都只留下一个 [M]。这就是 Part A：题目。"],
        [
            "part_b",
            1,
            "挖掉的片段就是 Part B：答案。它们的顺序是打乱的，这样模型就能学会按任何顺序填空。"
            "每个片段以 [S] 开头。",
        ],
        ["learns", 1, "Part B 的每个 token 都要说出下一个，最后说 [E]。Part A 只是用来读的。"],
        ["quiz", 2, "你是 Part B 里的“the”，要说出“sky”。选出所有你应该可以看的 token。"],
        ["rule", 2, "还没写出来的，谁也不能看。除此之外，全都可以看。"],
        [
            "mask",
            2,
            "每个 token 都按同一条规则：一行是谁在看，一列是看到什么。指着一个 token，它看得到的就会亮起来。",
        ],
        ["break", 2, "Part A 为什么不能看 Part B？打开掩码里一个关着的格子，看看谁会知道答案。"],
        [
            "leak",
            2,
            "如果 Part A 能看，它就会把答案带回来：[M] 读到“sky”，“the”读到 [M]，"
            "于是“the”就知道自己要说什么了。",
        ],
        [
            "cheat",
            2,
            "有这个漏洞的模型学会的是作弊，真要写的时候就写不出来。看两个小模型当场训练：数据是随机数字，"
            "谁也猜不出来。",
        ],
        [
            "positions",
            3,
            "Part B 的顺序是打乱的，所以用两个数说明一个 token 属于哪里：哪个空，空里的第几个。"
            "试着关掉一个。",
        ],
        [
            "fill",
            4,
            "现在来写：每个 token 回到自己的空里，后一个就看得到它。还没写出来的，谁也不能看；除此之外，"
            "全都可以看。",
        ],
    ],
    "back": "后退",
    "next": "继续",
    "play": "播放故事",
    "pause": "暂停故事",
    "calm": "已关闭，因为你的系统设置了减少动态效果",
    "place": "{n}/{all}",
    "parts": {"A": "Part A", "B": "Part B", "cut": "挖掉的", "text": "文本"},
    "guess": "你的猜测",
    "show": "猜",
    "guessed": "你猜的是“{guess}”。",
    "model": "页面里的模型写的是“{answer}”。它最可能的第一个 token：",
    "you": "你",
    "toggle": "{token}，{part}，{state}",
    "states": {"": "", "right": "可以看", "missed": "可以看，你漏掉了", "wrong": "不能看"},
    "missed": "你漏掉了{tokens}：题目和已经写出来的都可以看。",
    "answer": "“sky”正是你要说的答案。",
    "later": "{tokens}：写在你后面，轮到你回答时还不存在。",
    "perfect": "完全正确：{n} 个 token。",
    "families": {"glm": "GLM", "bert": "BERT", "gpt": "GPT"},
    "family": "同一段文本，换成",
    "sees": "{token}看得到 {all} 个 token 中的 {n} 个{says}。",
    "and says": "，要说出“{target}”",
    "grid": "掩码：行在看，列被看",
    "cell": "{query} 看 {key}：{state}",
    "cells": {"open": "开着", "shut": "关着", "leak": "你打开的"},
    "knows": "知道自己答案的 token：",
    "after": "{layers}之后，{all} 个里有 {n} 个",
    "path": "{path}，它要说出“{target}”。",
    "harmless": "打开了，但没有答案传回给要说出它的 token。",
    "closed": "没有答案泄露。点掩码里打叉或画斜线的格子，就能打开它。",
    "open one": "让 [M] 看“sky”",
    "open all": "让整个 Part A 都能看",
    "shut": "全部关上",
    "which": "第一个数：哪个空",
    "where": "第二个数：空里的第几个",
    "both on": "“the”的两个数是 4 和 2：第 4 个位置上的空，里面的第二个 token。第一个数最大是 4，"
    "因为 Part A 只有 0 到 4 五个位置；"
    "Part B 的 token 用的是它的 [M] 的位置。",
    "which off": "两个 [S] 现在一模一样，模型无从知道该写哪个空。",
    "where off": "“the”和“sky”现在在同一个位置：对一层注意力来说，“the sky”和“sky the”没有区别。",
    "both off": "Part B 里的顺序全没了。",
    "lab": "用下面的模型填空",
    "own": "用你自己的文本",
    "asked": "一位 GLM 用户的三个问题（THUDM/GLM#28）",
    "questions": [
        [
            "片段是怎么选的？",
            "随机：每个片段平均三个 token 左右，一直选到挖掉文本的 15 %。要学更长的回答，也会挖掉整句话，"
            "或者挖掉直到末尾的一长段。",
        ],
        [
            "为什么 x3 排到最后？为什么位置最大只到 5？",
            "片段的顺序是打乱的，这样模型就能学会任何顺序，而 x3 碰巧排在最后。位置是在 Part A 里的位置，"
            "而 Part A 只有五个 token："
            "一个片段无论多长，都用它的 [M] 的位置。",
        ],
        [
            "Part B 看得到 Part A，为什么 Part A 不能看 Part B？",
            "Part A 是题目，Part B 是答案。还没写出来的，谁也不能看；除此之外，全都可以看。"
            "如果 Part A 能看，它就会把答案带回给正要说出"
            "答案的那个 token。",
        ],
    ],
    "break it": "打破它，看看会怎样",
    "training": {
        "start": "从头训练",
        "stop": "停",
        "go on": "接着训练",
        "part_a_len": "算作 Part A 的 token：{n}{name}",
        "names": {"0": "（GPT）", "5": "（GLM）", "8": "（BERT）"},
        "looks": "Part A 看得到一切",
        "honest": "GLM 的掩码",
        "yours": "你的掩码",
        "writing": "你的模型真要写的时候",
        "guessing": "纯猜，ln 10",
        "axis": "一个数字的损失",
        "told": "第 {step} 步：GLM 的掩码 {honest}，你的掩码 {yours}；同样的权重真要写的时候：{writing}；"
        "纯猜：2.30",
        "how": "{layers} 层，宽度 {width}，每步 {samples} 个样本，六个数字里挖掉两个；损失的单位是 nat。"
        "训练的时候也可以拖动滑块。",
    },
}
