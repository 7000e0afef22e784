package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
)

// ZstdProgram is the program beside strata that compresses by libzstd, where it could be built.
const ZstdProgram = "strata-zstd"

// zstdRoom is what a frame of a piece may take at most: ZSTD_compressBound is less.
const zstdRoom = zstdPiece + zstdPiece/32

// zstdProcess is a running strata-zstd: cmd/strata-zstd/strata-zstd.c says what is said to it. It ends when its input does, thus
// also with this process.
type zstdProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Reader
	said bytes.Buffer
	mem  []byte // the piece, then the frame; shared with it
}

// startZstd gives a pieceCoder for pieces of up to zstdPiece bytes.
func startZstd(program string, level int) (pieceCoder, error) {
	p := &zstdProcess{cmd: exec.Command(program, strconv.Itoa(level), strconv.Itoa(zstdPiece), strconv.Itoa(zstdRoom))}
	if err := p.start(); err != nil {
		p.unmap()
		return nil, fmt.Errorf("compress: %w", err)
	}
	return p, nil
}

// provedZstd is startZstd, and has it compress nothing first.
func provedZstd(program string, level int) (pieceCoder, error) {
	p, err := startZstd(program, level)
	if err != nil {
		return nil, err
	}
	if _, err = p.code(nil, nil, nil); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// sharedCoder is a coder for one thread, and by turns for those that can get none of their own. The last one closes it.
type sharedCoder struct {
	mu    sync.Mutex
	coder pieceCoder
	taken bool
	users int
}

// borrow takes the coder: as the first, or when it is there already.
func (s *sharedCoder) borrow(first bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first && s.taken || !first && s.users == 0 {
		return false
	}
	s.taken = true
	s.users++
	return true
}

func (s *sharedCoder) code(dst, history, data []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.coder.code(dst, history, data)
}

func (s *sharedCoder) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.coder.close()
	}
}

// CheckZstd tells why strata-zstd at the path program does not work here; nil if it does.
func CheckZstd(program string) error {
	p, err := provedZstd(program, usualLibzstd)
	if err == nil {
		p.close()
	}
	return err
}

func (p *zstdProcess) start() error {
	shared, err := p.share()
	if err != nil {
		return fmt.Errorf("shared memory: %w", err)
	}
	defer shared.Close()
	p.cmd.Env, p.cmd.ExtraFiles, p.cmd.Stderr = []string{}, []*os.File{shared}, &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is ours to answer
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return err
	}
	return p.cmd.Start()
}

// share makes the memory. It cannot be made shorter: a page that is gone would kill who reads it.
func (p *zstdProcess) share() (*os.File, error) {
	fd, err := unix.MemfdCreate("piece", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "piece")
	if err = f.Truncate(zstdPiece + zstdRoom); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err == nil {
		p.mem, err = unix.Mmap(fd, 0, zstdPiece+zstdRoom, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (p *zstdProcess) code(dst, _, data []byte) ([]byte, error) {
	var length [4]byte
	binary.NativeEndian.PutUint32(length[:], uint32(copy(p.mem[:zstdPiece], data)))
	_, err := p.in.Write(length[:])
	if err == nil {
		_, err = io.ReadFull(p.out, length[:])
	}
	if err != nil {
		return dst, p.failure(err)
	}
	n := binary.NativeEndian.Uint32(length[:])
	if n > zstdRoom {
		return dst, fmt.Errorf("compress: %s made %d bytes of %d: %w", p.cmd.Path, n, len(data), errdef.ErrCorrupt)
	}
	return append(dst, p.mem[zstdPiece:zstdPiece+n]...), nil
}

// failure tells how the process ended that no longer answers.
func (p *zstdProcess) failure(err error) error {
	p.in.Close()
	if ended := p.cmd.Wait(); ended != nil {
		err = ended
	}
	if said := bytes.TrimSpace(p.said.Bytes()); len(said) > 0 {
		err = errors.New(string(said[:min(len(said), 300)]))
	}
	return fmt.Errorf("compress: %s: %w", p.cmd.Path, err)
}

func (p *zstdProcess) close() {
	p.in.Close()
	_ = p.cmd.Wait() // all that it was asked for it has given
	p.unmap()
}

func (p *zstdProcess) unmap() {
	if p.mem != nil {
		_ = unix.Munmap(p.mem)
	}
	p.mem = nil
}
