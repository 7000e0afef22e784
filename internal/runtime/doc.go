// Package runtime runs processes in containers through an OCI runtime: runc, or any program with runc's command line.
//
// Words. A bundle is a directory with config.json, the runtime-spec document that [Spec] makes; the root file system it
// names is mounted by the caller, in a mount namespace that only the caller and what it starts can see. A container is
// started ([Runtime.Start]: left running, its init process becomes our child; or [Runtime.Run]: run to its end), and
// known to the runtime by its id under [Runtime.State] until it is deleted.
//
// Which one to use. Measured side by side for one `true` (medians, two busy cores): run to the end in the foreground
// 46 ms; detached 42 ms, and its delete 8 ms more; create, start and delete 61 ms. So what can delete behind the user's
// back (a build step, while its layer is committed) is quickest with Start, Wait, and a Delete beside other work; what
// must have cleaned up before it goes on is quickest with Run.
//
// A build, which runs many, uses a [Runner]: one warm helper that runs them without starting the runtime's program again
// (docs/adr/0002-warm-runner.md).
//
// A container's seccomp filter is compiled once and kept ([Runtime.Filters]): runc alone compiles it each time, which takes
// 14 ms (docs/adr/0003-kept-filters.md). [Spec] itself takes 0.02 ms after the first, 0.1 ms for each new list of
// capabilities.
//
// What a failed start prints. The runtime has the container's own stderr and writes its message there, too. Since the
// container has then not run, everything that came through that pipe before a [StartError] is to be dropped.
//
// Invariants: limits are lowered to what this process may give, never refused; capabilities that this process lacks are
// left out; the runtime is started with an environment of its own.
//
// This package must never know images, layers, stores or records.
package runtime
