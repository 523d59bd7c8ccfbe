"""cc_fuzz_test: a libFuzzer target, run for a short while as a test."""

def cc_fuzz_test(name, srcs, hdrs, corpus, runs = 200000, seconds = 10, max_len = 4096, tags = None):
    """Compiles a fuzzer with clang, AddressSanitizer and UndefinedBehaviorSanitizer, and runs it.

    The test runs everything in the corpus, then what libFuzzer makes of it. It prints the seed; what
    makes the fuzzer fail is in the log and in the test's undeclared outputs. To search for long, build
    {name}_bin and start it by hand:

        mkdir found; .../{name}_bin -max_total_time=3600 found path/to/corpus

    (-seed=N repeats a run, a file's name instead of the folders runs just this file.)

    Args:
      name: name of the test.
      srcs: the sources: LLVMFuzzerTestOneInput and all that it links. They are compiled here, for the
        toolchain of cc_library is gcc, which knows no libFuzzer; of libraries only headers can be used.
      hdrs: their headers in this repository, by label.
      corpus: files to begin with.
      runs: how many inputs the test tries,
      seconds: and for how long at most.
      max_len: the longest input to try, in bytes.
      tags: as usual.
    """
    native.genrule(
        name = name + "_bin_gen",
        srcs = srcs + hdrs,
        outs = [name + "_bin"],
        cmd = " ".join([
            "/usr/bin/clang++ -std=c++20 -O1 -g -Wall -Wextra -Werror -I.",
            "-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer",
            "-fdebug-compilation-dir=. -ffile-prefix-map=$$PWD=.",
            "-o $@",
        ] + ["$(locations %s)" % src for src in srcs]),
        executable = True,
        message = "Compiling a fuzzer",
        tags = tags,
        testonly = True,
        visibility = ["//visibility:private"],
    )
    native.sh_test(
        name = name,
        size = "small",
        srcs = ["//third_party/bazel:run_fuzzer.sh"],
        args = [
            "$(location %s_bin)" % name,
            "-runs=%d" % runs,
            "-max_total_time=%d" % seconds,
            "-max_len=%d" % max_len,
            "--",
        ] + ["$(location %s)" % file for file in corpus],
        data = [name + "_bin"] + corpus,
        tags = tags,
    )
