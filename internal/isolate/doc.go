// Package isolate gives tests a network of their own: what they make there, bridges, rules, ports, never touches the
// machine's, and goes when they end.
//
// It is for tests alone, and must never know what they test.
package isolate
