package container

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// shrink gives back the memory that starting a container took: the heap's, and the pages of the program itself that were
// mapped meanwhile. Those stay in the page cache, and the few that an idle shim needs come back at a minor fault each.
func shrink() {
	debug.FreeOSMemory()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var start, end uintptr
		var perm string
		line := lines.Text()
		if !strings.HasSuffix(line, program) {
			continue
		}
		// Never a writable mapping: its changed pages are nowhere else.
		if n, _ := fmt.Sscanf(line, "%x-%x %4s", &start, &end, &perm); n != 3 || strings.Contains(perm, "w") {
			continue
		}
		unix.RawSyscallNoError(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
	}
}
