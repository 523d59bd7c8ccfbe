"""bpf_cc_library: a BPF program and its libbpf skeleton."""

def bpf_cc_library(
        name,
        src,
        hdrs = [],
        copts = [],
        deps = [],
        visibility = None,
        testonly = None,
        tags = None):
    """Compiles X.bpf.c and wraps its skeleton X.skel.h as a cc_library.

    Users write `#include "tcpshim/X.skel.h"`; the C functions are X__open(), X__load(), and so on
    (characters of X that C does not allow become underscores).

    Args:
      name: name of the cc_library.
      src: the program, named X.bpf.c, in this package.
      hdrs: headers shared by the program and user space, as files or filegroups; the program
        includes them by their path from the top of the repository. They are headers of the
        resulting cc_library too.
      copts: further flags for clang, e.g. "-D__TARGET_ARCH_x86".
      deps: further cc_library dependencies of the skeleton's users.
      visibility: as usual.
      testonly: as usual.
      tags: as usual.
    """
    if not src.endswith(".bpf.c"):
        fail("src must be named X.bpf.c", "src")
    stem = src[:-len(".bpf.c")]
    obj = stem + ".bpf.o"
    skel = stem + ".skel.h"
    ident = "".join([c if c.isalnum() else "_" for c in stem.elems()])

    # asm/types.h sits in the multiarch folder, which clang leaves out for the bpf target. The prefix
    # map keeps the sandbox's path out of the line information, so that results are reproducible.
    native.genrule(
        name = name + "_obj",
        srcs = [src] + hdrs,
        outs = [obj],
        cmd = " ".join([
            "/usr/bin/clang -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror",
            "-I. -I$(GENDIR) -I/usr/include/$$(uname -m)-linux-gnu",
            "-fdebug-compilation-dir=. -ffile-prefix-map=$$PWD=.",
        ] + copts + ["-c $(location %s) -o $@" % src]),
        message = "Compiling BPF",
        testonly = testonly,
        tags = tags,
        visibility = ["//visibility:private"],
    )

    # `gen object` drops the DWARF and keeps the BTF: the skeleton embeds the file as it is. bpftool
    # is not on the PATH of an action. The pragma: generated code does not pass -Wextra -Werror.
    native.genrule(
        name = name + "_skel",
        srcs = [obj],
        outs = [skel],
        cmd = " && ".join([
            "/usr/sbin/bpftool gen object $(@D)/%s.linked.tmp $<" % stem,
            "echo '#pragma GCC system_header' > $@",
            "/usr/sbin/bpftool gen skeleton $(@D)/%s.linked.tmp name %s >> $@" % (stem, ident),
            "rm $(@D)/%s.linked.tmp" % stem,
        ]),
        message = "Generating a BPF skeleton",
        testonly = testonly,
        tags = tags,
        visibility = ["//visibility:private"],
    )
    native.cc_library(
        name = name,
        hdrs = [skel] + hdrs,
        deps = deps + ["//third_party:libbpf"],
        testonly = testonly,
        tags = tags,
        visibility = visibility,
    )
