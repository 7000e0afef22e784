package program

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
)

// What is read of an ELF file: its header, the program headers, the loader's path. See elf(5).
const (
	elfMagic   = "\x7fELF"
	elfProgram = 2 // ET_EXEC
	elfShared  = 3 // ET_DYN
	elfInterp  = 3 // PT_INTERP
	maxHeaders = 128
	maxLoader  = 4096
)

// elfFile is what an ELF header says.
type elfFile struct {
	order       binary.ByteOrder
	wide        bool // 64 bits
	kind        uint16
	machine     uint16
	table       uint64 // offset of the program headers
	size, count uint16 // of one, and how many
}

// parseELF reads an ELF header; ok is false where it is none.
func parseELF(head []byte) (e elfFile, ok bool) {
	if len(head) < 52 || !bytes.HasPrefix(head, []byte(elfMagic)) {
		return e, false
	}
	switch head[5] {
	case 1:
		e.order = binary.LittleEndian
	case 2:
		e.order = binary.BigEndian
	default:
		return e, false
	}
	e.kind, e.machine = e.order.Uint16(head[16:]), e.order.Uint16(head[18:])
	switch {
	case head[4] == 1:
		e.table, e.size, e.count = uint64(e.order.Uint32(head[28:])), e.order.Uint16(head[42:]), e.order.Uint16(head[44:])
	case head[4] == 2 && len(head) >= 64:
		e.wide = true
		e.table, e.size, e.count = e.order.Uint64(head[32:]), e.order.Uint16(head[54:]), e.order.Uint16(head[56:])
	default:
		return e, false
	}
	return e, true
}

// loader gives the path of the loader that an ELF file asks for; "" if it asks for none.
func (e elfFile) loader(r io.ReaderAt) string {
	need := 32
	if e.wide {
		need = 56
	}
	if int(e.size) < need || e.count > maxHeaders || e.table > 1<<40 {
		return ""
	}
	headers := make([]byte, int(e.size)*int(e.count))
	if _, err := r.ReadAt(headers, int64(e.table)); err != nil && err != io.EOF {
		return ""
	}
	for ; len(headers) >= need; headers = headers[e.size:] {
		if e.order.Uint32(headers) != elfInterp {
			continue
		}
		offset, size := uint64(e.order.Uint32(headers[4:])), uint64(e.order.Uint32(headers[16:]))
		if e.wide {
			offset, size = e.order.Uint64(headers[8:]), e.order.Uint64(headers[32:])
		}
		if size == 0 || size > maxLoader || offset > 1<<40 {
			return ""
		}
		name := make([]byte, size)
		if n, err := r.ReadAt(name, int64(offset)); err != nil && n < len(name) {
			return ""
		}
		name, _, _ = bytes.Cut(name, []byte{0})
		return string(name)
	}
	return ""
}

// machines are the numbers of ELF's e_machine with docker's platforms, and which Go architectures run them.
var machines = []struct {
	number   uint16
	platform string
	runs     string
}{
	{3, "linux/386", "386 amd64"},
	{62, "linux/amd64", "amd64"},
	{40, "linux/arm", "arm arm64"},
	{183, "linux/arm64", "arm64"},
	{243, "linux/riscv64", "riscv64"},
	{22, "linux/s390x", "s390x"},
	{21, "linux/ppc64le", "ppc64le ppc64"},
	{8, "linux/mips64le", "mips mipsle mips64 mips64le"},
	{258, "linux/loong64", "loong64"},
}

// foreign gives the platform of a machine whose programs a processor of this architecture does not run; "" when it does,
// or when that is not known.
func foreign(machine uint16, arch string) string {
	known := ""
	for _, m := range machines {
		if m.number == machine {
			known = m.platform
		}
		if m.number == machine && word(m.runs, arch) {
			return ""
		}
	}
	if known == "" {
		return fmt.Sprintf("another kind of machine (ELF number %d)", machine)
	}
	return known
}

func word(list, w string) bool {
	for one := range strings.FieldsSeq(list) {
		if one == w {
			return true
		}
	}
	return false
}

// elf tells why the kernel would refuse an ELF file.
func (x *examiner) elf(r io.ReaderAt, head []byte, file string) *Problem {
	e, ok := parseELF(head)
	if !ok {
		return &Problem{Kind: Format, Exit: 126, Why: "its ELF header is cut off or broken", Hint: "copy it anew: it is not the whole file"}
	}
	arch, this := x.cmd.Arch, "this image"
	if arch == "" {
		arch, this = runtime.GOARCH, "this machine"
	}
	if platform := foreign(e.machine, arch); platform != "" {
		if binfmt(head, file) {
			return nil
		}
		return &Problem{Kind: Format, Exit: 126, Why: fmt.Sprintf("it is built for %s, and %s is linux/%s", platform, this, arch),
			Hint: fmt.Sprintf("build it, or take the image, for linux/%s (Go: GOARCH=%s); the package qemu-user-static runs foreign programs", arch, arch)}
	}
	if e.kind != elfProgram && e.kind != elfShared {
		return &Problem{Kind: Format, Exit: 126, Why: "it is an object file, not a linked program", Hint: "link it: leave out -c"}
	}
	loader := e.loader(r)
	if !path.IsAbs(loader) || !x.absent(loader) {
		return nil
	}
	return x.loaderMissing(loader)
}

// loaderMissing says for which C library a program was built whose loader the tree lacks.
func (x *examiner) loaderMissing(loader string) *Problem {
	p := &Problem{Kind: Loader, Exit: 127, Why: fmt.Sprintf("it needs %s, which the image lacks", loader)}
	switch name := path.Base(loader); {
	case strings.HasPrefix(name, "ld-musl-"):
		p.Why += ": it was built for musl (Alpine)"
		p.Hint = "run it on Alpine (FROM alpine), build it on the base that it runs on, or link it statically (CGO_ENABLED=0, -static)"
	case strings.HasPrefix(name, "ld-linux"), strings.HasPrefix(name, "ld64.so"), name == "ld.so.1":
		p.Why += ": it was built for glibc"
		if x.musl() {
			p.Why += ", and this image has musl"
		}
		p.Hint = "build it with CGO_ENABLED=0 (or link it statically), or use a glibc base such as debian:bookworm-slim"
	default:
		p.Hint = "link it statically, or use the base that it was built on"
	}
	return p
}

// musl reports whether the tree has musl's loader.
func (x *examiner) musl() bool {
	entries, err := x.tree.ReadDir("/lib")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "ld-musl-") {
			return true
		}
	}
	return false
}
