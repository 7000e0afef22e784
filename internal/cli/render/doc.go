// Package render turns results into what a person or a script reads: listings, inspect documents, progress, errors.
//
// # Words
//
//   - A row is a struct of strings that is one line of a listing. Its field names are docker's template names, its
//     fields stand in alphabetical order (so that its JSON is docker's, key by key) and a field's heading is its
//     `heading` tag, else made from its name.
//   - A document is a struct with docker's JSON keys that `inspect` prints.
//   - A progress display consumes the events of package progress until it is closed.
//   - Clean text has nothing in it that steers a terminal. See [Clean].
//
// # Rules
//
//   - Text that comes from images, Dockerfiles, logs and registries is made clean before it reaches a terminal: table
//     cells, names, notes and errors always; log lines keep their colours in the plain display only. What a custom
//     template or JSON prints is data and stays as it is.
//   - The results go where the caller says; this package never opens a file and never picks standard output by itself.
//   - text/template is compiled only when somebody gave a template.
//   - A display draws each frame with one write and leaves the cursor visible after it, so that no way of dying leaves
//     the terminal without one.
//
// # Where docker is left
//
// A size just under a unit reads "1MB" and not docker's "1e+03kB". A creation time of 1970 or before reads "N/A" in every
// listing. JSON is written without HTML escapes: the same document, fewer \u003c.
//
// This package must never know a store, an engine or a flag: it is handed values.
package render
