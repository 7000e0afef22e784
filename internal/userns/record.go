package userns

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holder is the record of a pause process. A pid alone may mean another process by now: it counts only with its start
// time (clock ticks since boot) and the inode of its user namespace.
type holder struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Inode uint64 `json:"userns"`
}

// recordPath is the file, within the run directory, that names the pause process of the store at root.
func recordPath(run, root string) string {
	sum := sha256.Sum256([]byte(root))
	return filepath.Join(run, "userns-"+hex.EncodeToString(sum[:8])+".json")
}

func readHolder(path string) (holder, error) {
	var h holder
	data, err := os.ReadFile(path)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(data, &h)
}

// write publishes h at path by rename. It lies in a run directory, so nothing is flushed.
func (h holder) write(path string) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	tmp := path + ".new" // the caller holds the lock
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// describe makes the record of a live process.
func describe(pid int) (holder, error) {
	start, err := startTime(pid)
	if err != nil {
		return holder{}, err
	}
	ino, err := inode(nsPath(pid, "user"))
	return holder{pid, start, ino}, err
}

// open gives the pidfd of the process that h records, or an error if that process is gone.
func (h holder) open() (pidfd int, err error) {
	if h.PID <= 1 {
		return -1, unix.ESRCH
	}
	pidfd, err = unix.PidfdOpen(h.PID, 0)
	if err != nil {
		return -1, fmt.Errorf("pause process %d: %w", h.PID, err)
	}
	// Checked after opening: whoever has this pid and start time now is the process that was opened.
	if now, err := describe(h.PID); err != nil || now != h {
		unix.Close(pidfd)
		return -1, fmt.Errorf("pause process %d is gone: %w", h.PID, unix.ESRCH)
	}
	return pidfd, nil
}

// startTime is field 22 of /proc/PID/stat; see proc_pid_stat(5). The second field is the program's name in parentheses and
// may itself contain spaces and parentheses. A zombie has no start time here: it holds no namespace.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, fmt.Errorf("process %d: %w", pid, unix.ESRCH)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func nsPath(pid int, kind string) string { return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind }
