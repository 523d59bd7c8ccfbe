"""cc_fuzz_test: a libFuzzer target, run for a short while as a test."""

# Of Abseil, whatever an object file may want: each knows the others.
ABSEIL = ["-Wl,--start-group"] + ["-labsl_" + name for name in [
    "bad_optional_access",
    "bad_variant_access",
    "base",
    "city",
    "civil_time",
    "cord",
    "cord_internal",
    "cordz_functions",
    "cordz_handle",
    "cordz_info",
    "debugging_internal",
    "demangle_internal",
    "exponential_biased",
    "graphcycles_internal",
    "hash",
    "hashtablez_sampler",
    "int128",
    "log_severity",
    "low_level_hash",
    "malloc_internal",
    "raw_hash_set",
    "raw_logging_internal",
    "spinlock_wait",
    "stacktrace",
    "status",
    "statusor",
    "str_format_internal",
    "strerror",
    "strings",
    "strings_internal",
    "symbolize",
    "synchronization",
    "throw_delegate",
    "time",
    "time_zone",
]] + ["-Wl,--end-group"]

def cc_fuzz_test(name, srcs, hdrs, corpus, runs = 200000, seconds = 10, max_len = 4096, libs = [], thrift = [], tags = None):
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
      libs: linker flags of installed libraries; their code is not instrumented.
      thrift: the generating rules of thrift_cc_library targets of this package ("wire_gen"): compiled too.
      tags: as usual.
    """
    flags = " ".join([
        "-std=c++20 -O1 -g -I. -I$(BINDIR) -Ifuzz_include",
        "-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer",
        "-fdebug-compilation-dir=. -ffile-prefix-map=$$PWD=.",
    ])
    commands = ["set -e"]
    if thrift:
        # Included by the path of the package; the generated sources do not pass the warnings.
        include = "fuzz_include/" + native.package_name()
        commands += [
            "mkdir -p " + include,
            "generated=; for file in %s; do case $$file in " % " ".join(["$(locations %s)" % t for t in thrift]) +
            "*.h) cp $$file %s ;; *.cpp) generated=\"$$generated $$file\" ;; esac; done" % include,
            "/usr/bin/clang++ %s -w -c $$generated" % flags,
            "objects=; for file in $$generated; do objects=\"$$objects $$(basename $$file .cpp).o\"; done",
        ]
    commands.append(" ".join(
        ["/usr/bin/clang++ -Wall -Wextra -Werror", flags, "-o $@"] +
        ["$(locations %s)" % src for src in srcs] +
        (["$$objects"] if thrift else []) +
        libs,
    ))
    native.genrule(
        name = name + "_bin_gen",
        srcs = srcs + hdrs + thrift,
        outs = [name + "_bin"],
        cmd = "; ".join(commands),
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
