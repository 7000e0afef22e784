// Package event keeps what has happened to containers, images and volumes: docker's events.
//
// A *message* is one event in docker's JSON form: a type ("container"), an action ("die"), and the actor it happened to
// with its attributes. The [Log] is the journal of one store. Whoever does a thing emits its message, after the thing is
// done and recorded; everybody may read.
//
// Invariants: emitting never fails a verb and waits for nobody, a full disk means a lost event; an attribute that comes
// from an image never takes the place of one of ours.
//
// This package must never know stores, records or engines.
package event
