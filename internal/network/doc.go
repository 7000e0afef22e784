// Package network brings containers and this machine's network together.
//
// Words. A [Network] is a bridge with its ranges of addresses; [Store] keeps the records of a store's networks and gives
// out addresses. An endpoint is one container's place in one network: a cable from the container's network namespace to
// the bridge. The firewall is a table of nftables of our own, made anew from the records: it lets containers out, keeps
// networks apart, and holds the rules of who may talk to whom. A [Port] is one of a container, with its protocol: 80/tcp.
// A [Publish] asks for it to be reachable at an address of this machine, perhaps at any free port of a range; -p is
// written so. A [Binding] is where it is reachable in fact. A [Relay] holds the bindings of one running container: it
// listens at them and moves streams and datagrams to the container, to which a [Dial] leads.
//
// What comes from other machines for a published port is rewritten by the kernel; what comes from this machine, and from
// its containers, goes through the relay: no loopback address is ever routed. A container that shares this machine's
// network ([Shared]) has its ports open already: a binding whose two port numbers are equal needs no relay.
//
// Invariants:
//   - all bindings of a container are made before it starts, or none;
//   - what a killed supervisor left (addresses, cables, rules) is given back by the next command that makes something here;
//   - a relay at rest costs a descriptor and a goroutine for each binding, and what it holds at work is bounded whoever
//     connects;
//   - an end of a stream is passed on as it came: each direction ends by itself.
//
// This package must never know containers' records, images or command lines.
package network
