// Package build turns a Dockerfile into an image.
//
// Words. A [Plan] is what building one target for one platform means: its [Stage]s in the order in which they can be
// built, their [Step]s with every word expanded, and the finished config and history of each. A [Base] is an image that a
// stage starts or copies from; the engine's [Resolver] finds it. A context is the directory that COPY and ADD read.
//
// Planning ([NewPlan]) does everything that needs no file system: scopes of ARG and ENV, ONBUILD triggers, numbering,
// history strings, config. Where BuildKit has a rule, it is BuildKit's rule. Execution makes vertices of the steps and
// runs them.
//
// Invariants. A plan depends on the Dockerfile, the options and the bases' configs only, and is the same each time. Stages
// that the target does not need are never resolved. A flag that is not built yet is an errdef.ErrUnsupported that names
// it, never left out in silence. Paths from the Dockerfile are clean and cannot leave their root.
//
// This package must never know registries, tags, or the command line.
package build
