"""What the figures say, in Chinese, see labels.py: titles, legends, axes and alternative texts."""

LABELS = {
    # names that stay
    **{name: name for name in ("GLM", "BERT", "GPT", "UniLM", "BLEU", "Part A", "Part B", "Part", "EOS")},
    **{name: name for name in ("AA, BA, BE, BS, AB, BF", "token", "FLOPs", "GEMM", "torch", "PyTorch")},
    **{name: name for name in ("naive, sdpa, scalar, tiled, avx, neon, avx512, avx512_bf16, flex, flash-attn",)},
    **{name: name for name in ("kernel", "emulated", "float32", "bfloat16", "float16", "key", "Poisson({})")},
    "prefix LM": "前缀 LM",
    # counts
    "{} token": "{} 个 token",
    "{} tokens": "{} 个 token",
    "{} word": "{} 个词",
    "{} words": "{} 个词",
    "{} span": "{} 个片段",
    "{} spans": "{} 个片段",
    "{} row": "{} 行",
    "{} rows": "{} 行",
    "{} order": "{} 种顺序",
    "{} orders": "{} 种顺序",
    "{} sample": "{} 条样本",
    "{} samples": "{} 条样本",
    "{} layer": "{} 层",
    "{} layers": "{} 层",
    "{} head": "{} 个头",
    "{} heads": "{} 个头",
    "{} blank": "{} 个空",
    "{} blanks": "{} 个空",
    "none": "无",
    # the mask and its legend
    "Who may see whom": "谁能看到谁",
    "{model} on {text}, {blanked} of them blanked in {spans}: {rows}, {n} of them {A}": (
        "{model}：{text}，挖掉其中 {blanked} 个，共 {spans}；样本有 {rows}，其中 {n} 行属于 {A}"
    ),
    "{} sees {}": "{} 看得到 {}",
    "{B} sees what came in an earlier {span}": "{B} 看得到排在前面的{span}",
    "... and earlier in the same {span}": "……以及同一个{span}里前面的内容",
    "... and itself": "……以及自己",
    "hidden: {A} never sees {B}": "不可见：{A} 看不到 {B}",
    "hidden: {B} never sees what comes later": "不可见：{B} 看不到后面的内容",
    "{} of {} cells are open ({}).": "{1} 格中有 {0} 格可见（{2}）。",
    "{mask} a blank, [S] the start of its span, [E] its end.": "{mask} 是空，[S] 是它那个片段的开头，[E] 是结尾。",
    "Positions count from 0; the paper counts from 1.": "位置从 0 数起；论文从 1 数起。",
    "learns": "要学的",
    "reads": "读到的",
    "text": "原文",
    "position": "位置",
    "block position": "片段内位置",
    "segment": "段",
    "block": "片段内",
    "Text": "文本",
    "Encoder": "编码器",
    "Decoder": "解码器",
    "Context": "上文",
    "Continuation": "续写",
    "the first part": "第一部分",
    "The first part": "第一部分",
    "the second": "第二部分",
    "The second": "第二部分",
    "The text": "文本",
    "The context": "上文",
    "The continuation": "续写",
    "piece": "片段",
    "span": "片段",
    "{model}'s attention mask of {rows}, {n} of them Part A.": (
        "{model} 的注意力掩码，共 {rows}，其中 {n} 行属于 Part A。"
    ),
    "Rows: {...}.": "各行：{...}。",
    "Cells of each kind: {...}.": "各类格子的个数：{...}。",
    # six models, orders, a batch
    "One text, six models": "同一段文本，六种模型",
    "{text}, {blanked} of them blanked in {spans}; queries down, keys across": (
        "{text}，挖掉其中 {blanked} 个，共 {spans}；竖排是 query，横排是 key"
    ),
    "{} open": "{} 可见",
    "Learns {}.": "学的是：{}。",
    "Positions: {}.": "位置：{}。",
    "Cannot {}.": "不能{}。",
    "Six models on the same text, {...}.": "六种模型读同一段文本：{...}。",
    "{}: {} of {} x {} cells open.": "{}：{2} x {3} 格中 {1} 可见。",
    "{} of {}": "{1}的 {0}",
    "{n} order of {spans}": "{spans}的 {n} 种顺序",
    "{n} orders of {spans}": "{spans}的 {n} 种顺序",
    "Rows and columns stay in the order of the text; outlined: what differs from the first panel": (
        "行和列都按原文的顺序；描边的格子与第一幅不同"
    ),
    "Rows and columns stay in the order of the text; outlined: what differs from the first panel; "
    "the first {} of {} orders": "行和列都按原文的顺序；描边的格子与第一幅不同；只画 {1} 种顺序中的前 {0} 种",
    "no span": "没有片段",
    "{} differ": "{} 格不同",
    "{}: {} cells differ": "{}：{} 格不同",
    "The counts are those of the first panel.": "个数是第一幅的。",
    "GLM's mask of {rows} in {orders} of its spans: {...}.": "GLM 的掩码，{rows}，片段有 {orders}：{...}。",
    "A packed batch: samples end to end": "打包的一批：样本首尾相接",
    "{}, {} rows, no padding.": "{}，{} 行，没有填充。",
    "The kernel needs two short arrays; visible_keys follows from them.": (
        "算子只需要两个短数组；由它们可以算出 visible_keys。"
    ),
    **{name: name for name in ("cu_seqlens = {...}", "part_a_lens = {...}", "visible_keys = {...}", "visible_keys")},
    "{} of {} cells are open ({}); the empty ones are between samples.": (
        "{1} 格中有 {0} 格可见（{2}）；空着的格子在样本之间。"
    ),
    "A packed batch of {}: {...}.": "打包的一批，{}：{...}。",
    # how a sample is made
    "From a text to Part A and Part B": "从文本到 Part A 和 Part B",
    "{} of {} blanked": "{1}中挖掉 {0}",
    "{share} of {text} blanked, in {spans}; Part B holds them in the order {order}": (
        "{text}中挖掉 {share}，共 {spans}；在 Part B 里的顺序是 {order}"
    ),
    "How GLM blanks {spans} of {text}.": "GLM 怎么从 {text}中挖掉 {spans}。",
    "Text: {...}.": "原文：{...}。",
    "Part A: {...}.": "Part A：{...}。",
    "Part B: {...}; it learns: {...}.": "Part B：{...}；要学的：{...}。",
    "Nothing is blanked, so there is no Part B.": "什么都没挖掉，所以没有 Part B。",
    "Two positions for every row": "每一行有两个位置",
    "0 in Part A": "Part A 里都是 0",
    "Positions of {}, {} of them Part A.": "{} 的位置，其中 {} 行属于 Part A。",
    "Block positions: {}.": "片段内位置：{}。",
    "Segments: {}.": "段：{}。",
    "{} steps to a sample": "{} 步做出一个样本",
    **{f"{n}  {{}}": f"{n}  {{}}" for n in range(1, 9)},
    "How a sample is made, in {} steps.": "一个样本的 {} 个制作步骤。",
    # models
    "Who looks at whom": "谁在看谁",
    "{layers} of {heads}, {rows}: queries down, keys across; the line is the end of Part A, hatched is hidden": (
        "{layers}，每层 {heads}，{rows}；竖排是 query，横排是 key；线是 Part A 的末尾，斜线处不可见"
    ),
    "head {}": "头 {}",
    "layer {}": "第 {} 层",
    "Attention weights of {layers} with {heads} each on {rows}: {...}.": (
        "{layers}、每层 {heads}的注意力权重，{rows}：{...}。"
    ),
    "The sharpest is head {head} of layer {layer}, whose rows give one key {most} of their weight on average; "
    "the most even gives {least}.": (
        "最集中的是第 {layer} 层的头 {head}，它的每一行平均把 {most} 的权重给同一个 key；最平均的给 {least}。"
    ),
    "What row {}, {...}, looks at": "第 {} 行（{...}）在看什么",
    "the mean of all heads": "所有头的平均",
    "Layer {}, {}: the weights of its keys, and its row of the mask": (
        "第 {} 层，{}：各个 key 的权重，以及掩码的这一行"
    ),
    "Layer {}, {}: the weights of its keys, and its row of the mask; the {} heaviest of {} keys": (
        "第 {} 层，{}：各个 key 的权重，以及掩码的这一行；只画 {3} 个 key 中最重的 {2} 个"
    ),
    "hidden": "不可见",
    "Attention of row {row}, {token...}, in layer {layer}, {who}.": "第 {row} 行（{token...}）的注意力，第 {layer} 层，{who}。",
    "It may see {} of {}.": "它看得到 {1} 行中的 {0}。",
    "The heaviest: {...}.": "最重的：{...}。",
    "Blanks filled, token by token": "逐个 token 填空",
    "A column for each token. Bar: its probability; ring: taken": "每个 token 一列。条：概率；框：选中的",
    "A column for each token. Bar: its probability; ring: taken; ▸: what stood there": (
        "每个 token 一列。条：概率；框：选中的；▸：原来的"
    ),
    "blank {}, token {}": "第 {} 空，token {}",
    "The text {...}, its {n} blank filled token by token. {...}": "文本 {...}，逐个 token 填了 {n} 个空。{...}",
    "The text {...}, its {n} blanks filled token by token. {...}": "文本 {...}，逐个 token 填了 {n} 个空。{...}",
    # tiles
    "What the kernel visits": "算子访问了哪些块",
    "Tiles of {rows} x {keys}: {visited} of {every} pairs are visited, so {saved} of the FLOPs of a dense pass "
    "are saved; {seen} of what is visited is seen.": (
        "{rows} x {keys} 的块：{every} 对中访问 {visited} 对，比稠密计算省 {saved} 的 FLOPs；"
        "访问的对里有 {seen} 可见。"
    ),
    "keys": "key",
    "rows": "行",
    "full: every pair is seen, nothing is compared": "满块：每一对都可见，不用比较",
    "partial: looked at pair by pair (dots: seen)": "部分块：逐对检查（点：可见）",
    "empty: never visited": "空块：从不访问",
    "the edge of the mask": "掩码的边界",
    "The kernel's tiles of a mask of {} rows and {} keys: {} full, {} partial, {} empty.": (
        "算子眼中的掩码，{} 行 {} 个 key：满块 {} 个，部分块 {} 个，空块 {} 个。"
    ),
    # runs and their curves
    "How alike are two positions?": "两个位置有多像？",
    "position embeddings": "位置的嵌入",
    "block position embeddings": "片段内位置的嵌入",
    "cosine": "余弦",
    "Cosine similarity of the rows of both position tables.": "两张位置表各行之间的余弦相似度。",
    "{}: {} rows, neighbours have a cosine of {} on average; {}: {} rows, neighbours have a cosine of {} on "
    "average.": "{}：{} 行，相邻两行的余弦平均为 {}；{}：{} 行，相邻两行的余弦平均为 {}。",
    "{} spans in {} texts": "{1} 段文本里的 {0} 个片段",
    "tokens": "token 数",
    "share of spans": "片段占比",
    "length of a span": "片段的长度",
    "Poisson({}) without 0": "泊松分布({})，去掉 0",
    "measured": "实测",
    "share": "比例",
    "texts": "文本数",
    "share of a text that is blanked": "一段文本挖掉的比例",
    "asked for: {}": "设定：{}",
    "mean: {}": "平均：{}",
    "Spans of the token objective in {texts} texts: {spans} spans of {mean} tokens on average (Poisson without "
    "zero: {law}); {share} of a text is blanked on average, {asked} was asked for and the last span may pass it.": (
        "token 目标在 {texts} 段文本里的片段：共 {spans} 个，平均 {mean} 个 token（去掉零的泊松分布：{law}）；"
        "一段文本平均挖掉 {share}，设定是 {asked}，最后一个片段可以超出。"
    ),
    "loss, nats per token": "损失，每个 token 的 nat 数",
    "learning rate": "学习率",
    "gradient norm": "梯度范数",
    "text tokens per second": "每秒处理的文本 token 数",
    "step": "步",
    "step; marks in the first panel: held-out loss": "步；第一幅中的标记：留出损失",
    "training {}": "训练 {}",
    "held out {}": "留出 {}",
    "held out, token {}": "留出，token {}",
    "held out, sentence {}": "留出，句子 {}",
    "held out, document {}": "留出，文档 {}",
    "{} runs": "{} 次运行",
    "Training curves, steps {} to {}.": "训练曲线，第 {} 到第 {} 步。",
    "Training curves of {name...}, steps {} to {}.": "{name...} 的训练曲线，第 {} 到第 {} 步。",
    "Training loss: {} at first, {} at the end, in nats per token.": "训练损失：开始 {}，结束 {}，单位是每个 token 的 nat 数。",
    "Last held-out loss: {...}.": "最后的留出损失：{...}。",
    "No held-out loss yet.": "还没有留出损失。",
    "Largest learning rate: {}.": "最大学习率：{}。",
    "Median gradient norm: {}.": "梯度范数的中位数：{}。",
    "Median speed: {} text tokens per second.": "速度的中位数：每秒 {} 个文本 token。",
    "Training curves of {} runs, in nats per token at the end.": "{} 次运行的训练曲线，结束时每个 token 的 nat 数。",
    # the benchmark
    "Attention under GLM's mask: {cpu...}, {n} threads, torch {torch...}, {date...}": (
        "GLM 掩码下的注意力：{cpu...}，{n} 线程，torch {torch...}，{date...}"
    ),
    "Attention under GLM's mask: {gpu...}, torch {torch...}, {date...}": (
        "GLM 掩码下的注意力：{gpu...}，torch {torch...}，{date...}"
    ),
    "{}: times as fast as PyTorch's best": "{}：是 PyTorch 最快写法的几倍",
    "{}: useful work as a share of the GEMM rate": "{}：有效计算达到矩阵乘法速度的几成",
    "fastest rung": "最快的一级",
    "{...} (forward)": "{...}（前向）",
    "{...}\nwrong: {...}": "{...}\n算错的：{...}",
    **{name: name for name in ("long", "packed", "decode")},
    "Attention under GLM's mask: a bar for each shape, the kernel's fastest rung, and marks for everything else.": (
        "GLM 掩码下的注意力：每种形状一条，是算子最快的一级，其余的用标记表示。"
    ),
    "In {type}, {rung...} is {ratio} times as fast as PyTorch's best, on average over {n} mixtures, forward and "
    "backward, and runs at {gemm} of the GEMM rate.": (
        "{type} 下，{rung...} 的前向加反向平均（{n} 种混合）是 PyTorch 最快写法的 {ratio} 倍，"
        "达到矩阵乘法速度的 {gemm}。"
    ),
    # minglm compare
    "One network, trained in four ways": "同一个网络，四种训练方式",
    "sentiment": "情感",
    "topic": "主题",
    "paraphrase": "复述",
    "book cloze": "书本完形",
    "modernise": "古文今译",
    "infill": "填空",
    "last word": "最后一词",
    "running text": "连续文本",
    "bits per byte": "每字节比特数",
    "{},\nablations": "{}，\n消融",
    "spans in order": "片段按序",
    "one position": "一个位置",
    "sentinels": "哨兵",
    "linear head": "线性头",
    "Scores of the same network pretrained as GLM, GPT, BERT and prefix LM.": (
        "同一个网络分别按 GLM、GPT、BERT 和前缀 LM 预训练后的分数。"
    ),
    # the animation
    "position {}": "位置 {}",
    "blank {}": "空 {}",
    "How GLM learns from a sentence, as an animation.": "动画：GLM 怎么从一句话里学习。",
    "The sentence: {...}.": "这句话：{...}。",
    "Part A, with one {} for each blank: {...}.": "Part A，每个空一个 {}：{...}。",
    "Part B, the blanked words: {...}.": "Part B，挖掉的词：{...}。",
    "It learns: {...}.": "它要学的：{...}。",
    "Position 1: {}.": "位置 1：{}。",
    "Position 2: {}.": "位置 2：{}。",
    "{} of {} cells of the mask are open: Part A sees Part A; Part B sees Part A and its own past.": (
        "掩码的 {1} 格中有 {0} 格可见：Part A 看得到 Part A；Part B 看得到 Part A 和自己前面的内容。"
    ),
    ", in shuffled order": "，顺序打乱",
}
