// Package stepwire is what strata and its helper strata-step say to each other: one message a packet, JSON, with open
// files beside it, over a pair of sockets of which the helper gets one as descriptor [FD].
//
// The one who starts the helper sends a [Request] for each container, any number at once, and gets for each one [Reply]
// when it has started and one when it has ended, or a single one when it did not start. When the socket closes the helper
// kills what runs and ends: this is how a build that is killed takes its containers along.
//
// Both ends come from one build of strata, so there are no versions. This package must never know what runs.
package stepwire
