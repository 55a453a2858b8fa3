// Runs the kernels of one file, READER, on the emulator and prints what happened as JSON, a line per puzzle:
// name, whether it is right, results, findings with addresses, and the counts.
//
//   driver NAME ...   these puzzles in order, up to the first that is not right
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include READER

// from here on the names are those of C++
#undef __syncthreads
#undef __syncwarp

using Numbers = std::vector<float>;
const std::vector<std::string> SCHEDULES = {"in-order", "reverse", "pct:1", "pct:2", "pct:3"};

Numbers random_numbers(int n, float scale = 1) {
    static uint64_t state = 1;
    Numbers numbers(n);
    for (float& x : numbers) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x = scale * (static_cast<float>(state >> 40) / static_cast<float>(1 << 23) - 1);
    }
    return numbers;
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n') out += "\\n";
        else out += c;
    }
    return out + "\"";
}
std::string list(const Numbers& numbers) {
    std::string out = "[";
    for (float x : numbers) {
        char text[32];
        std::snprintf(text, sizeof text, "%s%.7g", out.size() > 1 ? "," : "", static_cast<double>(x));
        out += std::isfinite(x) ? text : (out.size() > 1 ? ",null" : "null");
    }
    return out + "]";
}
std::string address(void* place) {
    char text[32];
    std::snprintf(text, sizeof text, "\"%p\"", place);
    return text;
}

// A puzzle with a case: `run` starts the kernel once and leaves its result in the vector.
struct Case {
    std::string about;
    Numbers want;
    std::function<void(Numbers&)> run;
};

bool close(float a, float b) { return std::fabs(a - b) <= 1e-4f * (1 + std::fabs(b)); }

bool try_puzzle(const std::string& name, const std::vector<Case>& cases) {
    std::string line = "{\"name\":" + quoted(name);
    bool right = true;
    puzzle::Stats stats;
    for (const Case& one : cases) {
        for (const std::string& schedule : SCHEDULES) {
            set_schedule(parse_schedule(schedule));
            Numbers got(one.want.size(), NAN);
            puzzle::recorder.start();
            one.run(got);
            puzzle::recorder.finish();
            const std::string report = last_report();
            bool same = report.empty() && puzzle::recorder.findings.empty();
            for (size_t i = 0; i < got.size(); ++i) same = same && close(got[i], one.want[i]);
            right = same;
            if (right && schedule != SCHEDULES[0]) continue;
            stats = puzzle::recorder.stats;
            if (right) continue;
            line += ",\"case\":" + quoted(one.about) + ",\"schedule\":" + quoted(schedule) + ",\"report\":" +
                    quoted(report) + ",\"got\":" + list(got) + ",\"want\":" + list(one.want) +
                    ",\"findings\":[";
            bool first = true;
            for (const puzzle::Finding& f : puzzle::recorder.findings) {
                line += std::string(first ? "" : ",") + "{\"kind\":" + quoted(f.kind) +
                        ",\"what\":" + quoted(f.what) +
                        ",\"place\":" + address(f.place) + ",\"other\":" + address(f.other) + "}";
                first = false;
            }
            line += "]";
            break;
        }
        if (!right) break;
    }
    line += std::string(",\"right\":") + (right ? "true" : "false");
    line += ",\"conflict\":" + address(puzzle::recorder.conflict_place);
    puzzle::recorder.conflict_place = nullptr;
    const std::pair<const char*, long> counts[] = {
        {"global_reads", stats.global_reads}, {"global_writes", stats.global_writes},
        {"shared_reads", stats.shared_reads}, {"shared_writes", stats.shared_writes},
        {"conflicts", stats.conflicts},       {"sectors", stats.sectors}};
    for (const auto& [what, count] : counts)
        line += ",\"" + std::string(what) + "\":" + std::to_string(count);
    std::printf("%s}\n", line.c_str());
    std::fflush(stdout);  // what follows may never end
    return right;
}

Array<float> writes(const char* name, Numbers& numbers) {
    return {name, numbers.data(), static_cast<long>(numbers.size()), false, false};
}
Array<const float> reads(const char* name, const Numbers& numbers) {
    return {name, const_cast<float*>(numbers.data()), static_cast<long>(numbers.size()), false, true};
}

int visible_keys(int i, int A) { return std::max(A, i + 1); }

// Each puzzle once: the numbers, what is right (by plain loops), and the launch.
std::vector<Case> cases_of(const std::string& name) {
    std::vector<Case> cases;
    const auto add = [&](const std::string& about, Numbers want, std::function<void(Numbers&)> run) {
        cases.push_back({about, std::move(want), std::move(run)});
    };
    if (name == "map" || name == "guard") {
        for (int n : {8, 32, 70}) {
            const Numbers in = random_numbers(n);
            Numbers want(n);
            for (int i = 0; i < n; ++i) want[i] = 2 * in[i];
            const std::string text = std::to_string(n) + " numbers, ";
            if (name == "map")
                add(text + "1 block of " + std::to_string(n) + " threads", want,
                    [=](Numbers& out) {
                        launch(&map, dim3(1), n, 0, nullptr, writes("out", out), reads("in", in));
                    });
            else
                add(text + (n > 32 ? "3 blocks" : "1 block") + " of 32 threads", want, [=](Numbers& out) {
                    launch(&guard, dim3((n + 31) / 32), 32, 0, nullptr, writes("out", out),
                           reads("in", in), n);
                });
        }
    }
    if (name == "tile") {
        const Numbers in = random_numbers(64);
        Numbers want(64);
        for (int i = 0; i < 64; ++i) want[i] = (i > 0 ? in[i - 1] : 0) + in[i] + (i < 63 ? in[i + 1] : 0);
        add("64 numbers, 1 block of 64 threads", want,
            [=](Numbers& out) {
                launch(&tile, dim3(1), 64, 256, nullptr, writes("out", out), reads("in", in));
            });
    }
    if (name == "two_barriers") {
        const Numbers in = random_numbers(64 * 4);
        Numbers want(64);
        for (int t = 0; t < 4; ++t)
            for (int i = 0; i < 64; ++i) want[i] += in[64 * t + 63 - i];
        add("4 tiles, 1 block of 64 threads", want, [=](Numbers& out) {
            launch(&two_barriers, dim3(1), 64, 256, nullptr, writes("out", out), reads("in", in), 4);
        });
    }
    if (name == "warp_max") {
        const Numbers in = random_numbers(32);
        add("32 numbers, 1 warp", Numbers(32, *std::max_element(in.begin(), in.end())),
            [=](Numbers& out) {
                launch(&warp_max, dim3(1), 32, 0, nullptr, writes("out", out), reads("in", in));
            });
    }
    if (name == "online_softmax") {
        for (float scale : {1.0f, 200.0f}) {
            const int n = 96;
            const Numbers in = random_numbers(n, scale);
            const float m = *std::max_element(in.begin(), in.end());
            float sum = 0;
            for (float x : in) sum += std::exp(x - m);
            add("96 numbers" + std::string(scale > 1 ? " between -200 and 200" : "") + ", 1 warp", {m, sum},
                [=](Numbers& out) {
                    launch(&online_softmax, dim3(1), 32, 0, nullptr, writes("out", out), reads("in", in), n);
                });
        }
    }
    if (name == "skip") {
        const int T = 100;
        for (int A : {0, 100, 40}) {
            const Numbers values = random_numbers(T);
            Numbers want(T);
            for (int i = 0; i < T; ++i)
                for (int j = 0; j < visible_keys(i, A); ++j) want[i] += values[j];
            add("100 rows, A = " + std::to_string(A), want, [=](Numbers& out) {
                launch(&skip, dim3(T), 32, 0, nullptr, writes("out", out), reads("values", values), A);
            });
        }
    }
    if (name == "swizzle") {
        const Numbers in = random_numbers(1024);
        Numbers want(1024);
        for (int r = 0; r < 32; ++r)
            for (int c = 0; c < 32; ++c) want[32 * r + c] = in[32 * c + r];
        add("32 x 32 numbers, 1 warp", want,
            [=](Numbers& out) {
                launch(&swizzle, dim3(1), 32, 4096, nullptr, writes("out", out), reads("in", in));
            });
    }
    if (name == "fragment") {
        Numbers a(256), b(128), want(128);
        for (int i = 0; i < 256; ++i) a[i] = static_cast<float>(i * 7 % 13 - 6);
        for (int i = 0; i < 128; ++i) b[i] = static_cast<float>(i * 5 % 11 - 5);
        for (int m = 0; m < 16; ++m)
            for (int n = 0; n < 8; ++n)
                for (int x = 0; x < 16; ++x) want[8 * m + n] += a[16 * m + x] * b[8 * x + n];
        add("1 warp", want, [=](Numbers& out) {
            launch(&fragment, dim3(1), 32, 0, nullptr, writes("out", out), reads("a", a), reads("b", b));
        });
    }
    if (name == "forward") {
        const int T = 40, A = 20, D = 32;
        const Numbers q = random_numbers(T * D, 4), k = random_numbers(T * D, 4), v = random_numbers(T * D);
        Numbers want(T * D);
        for (int i = 0; i < T; ++i) {
            std::vector<double> scores(visible_keys(i, A));
            double top = -INFINITY, sum = 0;
            for (size_t j = 0; j < scores.size(); ++j) {
                for (int d = 0; d < D; ++d)
                    scores[j] += double(q[D * i + d]) * k[D * j + d] / std::sqrt(double(D));
                top = std::max(top, scores[j]);
            }
            for (double& s : scores) sum += s = std::exp(s - top);
            for (size_t j = 0; j < scores.size(); ++j)
                for (int d = 0; d < D; ++d)
                    want[D * i + d] += static_cast<float>(scores[j] / sum * v[D * j + d]);
        }
        add("40 rows, A = 20", want, [=](Numbers& out) {
            launch(&forward, dim3(T), 32, 128, nullptr, writes("out", out), reads("q", q), reads("k", k),
                   reads("v", v), A);
        });
    }
    return cases;
}

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i)
        if (!try_puzzle(argv[i], cases_of(argv[i]))) return 0;
}
