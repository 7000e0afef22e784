// Package graph solves a graph of vertices and remembers what each gave.
//
// A [Vertex] is one step. Its [Op] says what the step depends on, in named, readable lines, and runs it. Two keys decide
// whether it must run:
//
//   - the definition key: the op's lines, and the results of its inputs. Results chain keys, never recipes: a step that
//     ran again and gave the same result disturbs nobody below it;
//   - where content decides, the content key: the definition key and the lines that the op makes of the content it
//     selects. Only ops whose definition alone cannot tell have content lines.
//
// The lines are kept with the result. So when a step must run, its slot (its stable place, whatever its key) leads to what
// it was made of the last time, and the difference is said in words.
//
// Invariants:
//
//   - A vertex runs at most once in a solve; a key at most once at a time on the machine: the lock of a key is a file
//     lock, and whoever waited for it looks again before it runs.
//   - A cached result is used only when all that it names is held and exists.
//   - Entries are volatile: a lost or damaged one is a miss, never an error.
//   - Keys are salted with a version and hashed with lengths before the texts: no two lists of lines run together.
//
// This package must never know what a result means: it holds JSON, not images.
package graph
