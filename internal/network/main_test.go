package network

import (
	"os"
	"testing"

	"strata/internal/isolate"
)

func TestMain(m *testing.M) { os.Exit(isolate.Main(m.Run)) }
