package build

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// How far a signal's name may be from RTMIN and from RTMAX.
const (
	fromRTMin = 15
	fromRTMax = 14
)

// checkSignal checks STOPSIGNAL: a number, or a name with or without SIG, RTMIN+n and RTMAX-n included. Which numbers there
// are is up to the machine that the image runs on; zero is none anywhere.
func checkSignal(text string) error {
	if n, err := strconv.Atoi(text); err == nil && n != 0 {
		return nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if unix.SignalNum("SIG"+name) != 0 {
		return nil
	}
	switch name {
	case "CLD", "IOT", "POLL", "UNUSED", "STKFLT", "RTMIN", "RTMAX":
		return nil
	}
	for prefix, most := range map[string]int{"RTMIN+": fromRTMin, "RTMAX-": fromRTMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if n, err := strconv.Atoi(rest); ok && err == nil && n > 0 && n <= most {
			return nil
		}
	}
	return fmt.Errorf("STOPSIGNAL %s: there is no such signal", text)
}
