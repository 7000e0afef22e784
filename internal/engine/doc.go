// Package engine holds strata's verbs, one file each. It is the only composer: it opens the stores, picks the drivers,
// hands lower packages what they ask for through small interfaces, and keeps the rules that no single store can keep
// (leases before use, seal before tag, sweep under the guard).
//
// A verb takes plain options, returns plain results, and reports progress through a progress.Sink. It prints nothing,
// reads no flags and no terminal: that is the command line's work, and later the Engine API's.
//
// Each verb reads as a page: which stores it asks, in which order, what it publishes last.
package engine
