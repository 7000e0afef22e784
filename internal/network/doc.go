// Package network brings containers and this machine's network together. So far that is published ports.
//
// Words. A [Port] is one of a container, with its protocol: 80/tcp. A [Publish] asks for it to be reachable at an address of
// this machine, perhaps at any free port of a range; -p is written so. A [Binding] is where it is reachable in fact. A
// [Relay] holds the bindings of one running container: it listens at them and moves streams and datagrams to the
// container, to which a [Dial] leads.
//
// Containers share the network of this machine for now, or have none ([Shared]). The ports of one that shares it are open
// already, so a binding whose two port numbers are equal needs no relay; that the port is free when the container starts
// is all that can be checked. Networks of their own will add namespaces, bridges, addresses and names to this package; then
// a relay gets a Dial that works inside the container's namespace, and every binding is relayed or done by the kernel.
//
// Invariants:
//   - all bindings of a container are made before it starts, or none;
//   - a relay at rest costs a descriptor and a goroutine for each binding, and what it holds at work is bounded whoever
//     connects;
//   - an end of a stream is passed on as it came: each direction ends by itself.
//
// This package must never know containers' records, images or command lines.
package network
