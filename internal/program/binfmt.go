package program

import (
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// binfmtDir is where the kernel lists the formats that it was taught.
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// binfmt reports whether the kernel was taught to execute a file that begins with head: by qemu-user-static, for one.
// See the kernel's admin-guide/binfmt-misc.
func binfmt(head []byte, file string) bool {
	names, err := filepath.Glob(binfmtDir + "/*")
	if err != nil {
		return false // only a malformed pattern gives an error
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		entry, err := io.ReadAll(io.LimitReader(f, 4<<10))
		f.Close()
		if err == nil && matches(string(entry), head, file) {
			return true
		}
	}
	return false
}

// matches reports whether a file is of the kind that an entry describes.
func matches(entry string, head []byte, file string) bool {
	fields := map[string]string{}
	for line := range strings.Lines(entry) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		fields[name] = value
	}
	if _, on := fields["enabled"]; !on {
		return false
	}
	if ext := fields["extension"]; ext != "" {
		return path.Ext(file) == ext
	}
	magic, err := hex.DecodeString(fields["magic"])
	offset, oerr := strconv.Atoi(fields["offset"])
	if err != nil || oerr != nil || len(magic) == 0 || offset < 0 || offset+len(magic) > len(head) {
		return false
	}
	mask, err := hex.DecodeString(fields["mask"])
	if err != nil || len(mask) != len(magic) {
		mask = bytes.Repeat([]byte{0xff}, len(magic))
	}
	for i, b := range magic {
		if (head[offset+i]^b)&mask[i] != 0 {
			return false
		}
	}
	return true
}

// Emulated lists the architectures, in the words of platforms, whose programs the kernel was taught to run: by the names that
// qemu-user-static and its kin give their entries.
func Emulated() []string {
	names := map[string]string{
		"aarch64": "arm64", "arm": "arm/v7", "i386": "386", "loongarch64": "loong64", "mips64el": "mips64le", "ppc64le": "ppc64le",
		"riscv64": "riscv64", "s390x": "s390x", "x86_64": "amd64",
	}
	files, err := filepath.Glob(binfmtDir + "/qemu-*")
	if err != nil {
		return nil // only a malformed pattern gives an error
	}
	var found []string
	for _, file := range files {
		entry, err := os.ReadFile(file)
		arch, known := names[strings.TrimPrefix(filepath.Base(file), "qemu-")]
		if err == nil && known && strings.HasPrefix(string(entry), "enabled") {
			found = append(found, arch)
		}
	}
	return found
}
