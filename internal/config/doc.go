// Package config reads what people set down in files: strata's own strata.toml, and of docker's config.json the keys that
// are not about credentials.
//
// strata.toml is strict: a key that is not known, or a value of another kind, is an error with file and line, never
// ignored. There is one for the machine and one for the user; a key of the user's wins over the machine's. STRATA_CONFIG names one file
// to be read in the place of both.
//
// A key is a field of [Config] with a `toml` name. Whoever adds one writes its default into Default, and is done: reading,
// merging and [Config.Settings], which `info` prints, go by the fields. What a value means is its user's to say, with
// [Config.Fault] naming the file.
//
// Files are read when they are asked for, never when the program starts.
//
// This package must never know what the keys do.
package config
