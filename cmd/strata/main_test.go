//go:build linux

package main_test

import (
	"os"
	"testing"

	"strata/internal/isolate"
)

// TestMain gives the scripts a network of their own, but for those that need the package registries.
func TestMain(m *testing.M) {
	if os.Getenv("STRATA_TEST_REAL") != "" {
		os.Exit(m.Run())
	}
	os.Exit(isolate.Main(m.Run))
}
