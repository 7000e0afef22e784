//go:build linux

package main_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"

	"github.com/rogpeppe/go-internal/testscript"
)

// mkelf FILE host|foreign [LOADER]: the beginning of a program for this machine's or another processor, which is all that a
// kernel looks at before it refuses it.
func mkelf(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: mkelf FILE host|foreign [LOADER]")
	}
	machine := map[string]uint16{"amd64": 62, "arm64": 183, "386": 3, "riscv64": 243, "s390x": 22}[runtime.GOARCH]
	if args[1] == "foreign" {
		machine = map[bool]uint16{true: 62, false: 183}[runtime.GOARCH == "arm64"]
	}
	loader := ""
	if len(args) > 2 {
		loader = args[2]
	}
	le := binary.LittleEndian
	head := make([]byte, 64+56)
	copy(head, "\x7fELF\x02\x01\x01")
	le.PutUint16(head[16:], 2)                        // ET_EXEC
	le.PutUint16(head[18:], machine)                  // e_machine
	le.PutUint32(head[20:], 1)                        // EV_CURRENT
	le.PutUint64(head[32:], 64)                       // e_phoff
	le.PutUint16(head[52:], 64)                       // e_ehsize
	le.PutUint16(head[54:], 56)                       // e_phentsize
	le.PutUint16(head[56:], 1)                        // e_phnum
	le.PutUint32(head[64:], 3)                        // PT_INTERP
	le.PutUint64(head[64+8:], 120)                    // p_offset
	le.PutUint64(head[64+32:], uint64(len(loader)+1)) // p_filesz
	body := append(head, loader+"\x00"...)
	body = append(body, bytes.Repeat([]byte{0}, 4096)...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), body, 0o755))
}
