package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func strataZstd(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath(ZstdProgram)
	if err != nil {
		t.Skip("no strata-zstd in $PATH: it could not be built here")
	}
	return program
}

// Frames of many lengths, at all levels: a call to the kernel other than read and write would end the program.
func TestZstdProcess(t *testing.T) {
	program := strataZstd(t)
	data := mixed(zstdPiece)
	for level := 1; level <= 5; level++ {
		coder, err := startZstd(program, level)
		if err != nil {
			t.Fatal(err)
		}
		defer coder.close()
		for n := 0; ; n = min(2*n+1, zstdPiece) {
			out, err := coder.code([]byte("before"), nil, data[:n])
			if err != nil {
				t.Fatalf("level %d, %d bytes: %v", level, n, err)
			}
			frame, kept := bytes.CutPrefix(out, []byte("before"))
			r, err := zstd.NewReader(bytes.NewReader(frame))
			if err != nil {
				t.Fatal(err)
			}
			if back, err := io.ReadAll(r); !kept || err != nil || !bytes.Equal(back, data[:n]) {
				t.Fatalf("level %d, %d bytes: %d come back, %v", level, n, len(back), err)
			}
			if n == zstdPiece {
				break
			}
		}
	}
}

// A program that ends before its time is an error that says how; it is not waited for.
func TestZstdProcessEnds(t *testing.T) {
	coder, err := startZstd(strataZstd(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	p := coder.(*zstdProcess)
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := coder.code(nil, nil, mixed(zstdPiece)); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("killed: %v", err)
	}
	coder.close()
	for program, says := range map[string]string{"/bin/false": "exit status 1", "/bin/cat": "No such file"} {
		coder, err := startZstd(program, 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := coder.code(nil, nil, []byte("x")); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", program, err)
		}
		coder.close()
	}
	if _, err := startZstd("/nonexistent/strata-zstd", 2); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// Where the program does not work, Go's library compresses, and nobody is told of it but by [CheckZstd].
func TestZstdProcessDoesNotWork(t *testing.T) {
	data := mixed(zstdPiece + 100)
	want := pressed(t, zstdForm(0, ""), 2, 1<<20, data)
	for _, program := range []string{"/nonexistent/strata-zstd", "/bin/false", "/bin/cat"} {
		var out bytes.Buffer
		w, err := zstdWriter(&out, 0, program, 2)
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		if _, err = w.Write(data); err != nil || w.Close() != nil || !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: %d bytes instead of %d, %v", program, out.Len(), len(want), err)
		}
		if CheckZstd(program) == nil {
			t.Errorf("%s is said to work", program)
		}
	}
	program := strataZstd(t)
	if err := CheckZstd(program); err != nil {
		t.Error(err)
	}
	want = pressed(t, zstdForm(0, program), 2, 1<<20, data)
	var out bytes.Buffer
	w, err := zstdWriter(&out, 0, program, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write(data); err != nil || w.Close() != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%s: %d bytes instead of %d, %v", program, out.Len(), len(want), err)
	}
	if _, err := zstdWriter(&brokenWriter{-1}, 0, program, 2); !errors.Is(err, errBroken) {
		t.Errorf("a writer that takes nothing: %v", err)
	}
}

// Where only one process can be started, all threads use that one.
func TestZstdProcessShared(t *testing.T) {
	data := mixed(9*zstdPiece + 100)
	program := filepath.Join(t.TempDir(), ZstdProgram)
	if err := os.Symlink(strataZstd(t), program); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := zstdWriter(&out, 0, program, 4)
	if err == nil {
		err = os.Remove(program)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, bytes.NewReader(data))
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if want := pressed(t, zstdForm(0, strataZstd(t)), 2, 1<<20, data); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d bytes instead of %d", out.Len(), len(want))
	}
}

// Once it has started it can do nothing but read, write and end. That is a filter, which adds to those of a container.
func TestZstdProcessConfined(t *testing.T) {
	coder, err := provedZstd(strataZstd(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer coder.close()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", coder.(*zstdProcess).cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(status, []byte("\nNoNewPrivs:\t1\n")) || !bytes.Contains(status, []byte("\nSeccomp:\t2\n")) {
		t.Errorf("it may do more than read, write and end:\n%s", status)
	}
}

// It ends with who started it, whoever holds its output.
func TestZstdProcessGoesWithUs(t *testing.T) {
	coder, err := startZstd(strataZstd(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	p := coder.(*zstdProcess)
	ended := make(chan error, 1)
	p.in.Close()
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it still runs")
	}
	p.unmap()
}
