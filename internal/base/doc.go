// Package base gives the base images that are built into strata, so that an image can be built without any network:
//
//	strata.internal/static    certificates, time zones, users: what a static program needs around it
//	strata.internal/toolbox   static, and over it a shell and the usual small tools
//
// Words. A *base* is named as in FROM. It is made of *layers*, each a tar that the helper program strata-toolbox writes;
// the toolbox base shares the layer of the static one.
//
// Invariants: the same helper program gives the same bytes; [Source.Key] changes when the program does.
//
// This package must never know where layers and images are stored.
package base
