package main

import (
	"os"
	"testing"

	"strata/internal/isolate"
)

// TestMain gives the cases a network of their own: what they run in is in none of the machine's.
func TestMain(m *testing.M) { os.Exit(isolate.Main(m.Run)) }
