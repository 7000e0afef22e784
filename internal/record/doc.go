// Package record keeps strata's small durable records: one JSON file each, published by atomic rename.
//
// [Dir] is a directory of records of one kind, by key. Readers never lock: they see a record whole, old or new. Writers
// of one record exclude each other by a lock file of that record, never of the directory: different records never queue.
//
// [Leases] keep what a running process relies on from the garbage collector; [Guard] is the moment in which references
// are made or swept. The rule that both sides keep:
//
//   - Hold a name in a lease first, look whether the thing exists after. [Lease.Hold] takes the guard shared.
//   - The sweep reads records as roots, then takes the guard exclusively, reads leases, and renames what is in neither into the
//     trash. So a thing that was seen after Hold stays until the lease ends; by then a record refers to it or nobody does.
//   - The records may have been read before that one was there: leases that end meanwhile are read too ([Leases.Sweep]).
//
// This package must never know what its records mean.
package record
