package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// plainRows are what a plain user's containers get out of this machine. Podman of Debian bookworm leads out by slirp4netns.
func plainRows() []workload {
	return []workload{{
		name: "2 GB out of a plain user's container", limits: []limit{{than: "podman", ratio: 1}},
		prepare: func(ctx context.Context, b *bed) error {
			if err := layNetworks(ctx, b); err != nil {
				return err
			}
			return b.layPlain(ctx)
		},
		do: func(b *bed, e *engine) *task { return b.outward(b.plain.engines[e.name]) },
	}}
}

// plainBytes is what one measurement moves out.
const plainBytes = 2 << 30

// plain is a user without rights, who has engines in stores of his own.
type plain struct {
	home    string
	engines map[string]*plainEngine // strata and podman
	server  *exec.Cmd               // what his containers send to, on the machine beside this one
}

// plainEngine is an engine as the user has it, with the container pump, which listens at a port of this machine.
type plainEngine struct {
	*engine
	port string
}

const (
	plainUID  = 54326
	plainName = "strata-bench"
)

// layPlain makes the user and starts his containers.
func (b *bed) layPlain(ctx context.Context) error {
	if b.plain.engines != nil {
		return nil
	}
	b.plain = plain{home: filepath.Join(b.dir, "plain"), engines: map[string]*plainEngine{}}
	if err := errors.Join(os.Chmod(b.dir, 0o711), os.Chmod(b.base(), 0o644), b.settle(), openTun(b.run)); err != nil {
		return err
	}
	there := strconv.Itoa(b.lands[b.strata()].neighbour.Process.Pid)
	b.plain.server = exec.Command("nsenter", "-t", there, "-n", b.flowProgram(), "serve", "192.0.2.2:9000")
	if err := b.plain.server.Start(); err != nil {
		return err
	}
	if err := b.addPlain(ctx, "strata", "8090"); err != nil {
		return err
	}
	if b.engineNamed("podman") == nil {
		return nil
	}
	return b.addPlain(ctx, "podman", "8092", "CONTAINERS_CONF="+b.plain.home+"/containers.conf", "XDG_RUNTIME_DIR="+b.plain.home)
}

// settle makes the user's home, with strata's programs, and his entries in /etc, which the bed has for itself.
func (b *bed) settle() error {
	home := b.plain.home
	if _, err := exec.LookPath("newuidmap"); err != nil {
		return fmt.Errorf("package uidmap: %w", err)
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(home, "bin"), os.DirFS("bin")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(home, "containers.conf"), []byte(podmanConf), 0o644); err != nil {
		return err
	}
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	const ranges = plainName + ":2200000000:65536\n"
	for name, text := range map[string]string{
		"passwd": fmt.Sprintf("%s%s:x:%d:%d::%s:/bin/sh\n", users, plainName, plainUID, plainUID, home), "subuid": ranges, "subgid": ranges,
	} {
		file := filepath.Join(b.run, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, "/etc/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("/etc/%s: %w", name, err)
		}
	}
	return os.Chown(home, plainUID, plainUID)
}

// openTun puts a device that all may open over /dev/net/tun.
func openTun(dir string) error {
	tun := filepath.Join(dir, "tun")
	if err := unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))); err != nil {
		return fmt.Errorf("tun: %w", err)
	}
	if err := os.Chmod(tun, 0o666); err != nil {
		return err
	}
	return unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, "")
}

// addPlain readies one engine and starts its container.
func (b *bed) addPlain(ctx context.Context, name, port string, env ...string) error {
	home, id := b.plain.home, strconv.Itoa(plainUID)
	program := filepath.Join(home, "bin/strata")
	store := []string{"--root", home + "/" + name, "--run-dir", home + "/" + name + ".run"}
	if name == "podman" {
		program, store = b.engineNamed("podman").path, []string{"--root", home + "/podman", "--runroot", home + "/podman.run"}
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		return err
	}
	e := &plainEngine{port: port, engine: &engine{
		name: "plain user's " + name, path: setpriv, env: append(env, "HOME="+home),
		global: append([]string{"--reuid", id, "--regid", id, "--clear-groups", program}, store...),
	}}
	// The user may not look where this process stands.
	e.dir = home
	if err := e.run(ctx, "import", b.base(), "bench/base"); err != nil {
		return err
	}
	b.plain.engines[name] = e
	return e.run(ctx, "run", "-d", "--name", "pump", "-p", "127.0.0.1:"+port+":80", "-v", b.flowProgram()+":/flow", "bench/base", "/flow", "serve", ":80")
}

// outward has the engine's container send to the machine beside this one.
func (b *bed) outward(e *plainEngine) *task {
	if e == nil {
		return nil
	}
	args := []string{"send", "192.0.2.2:9000", strconv.FormatInt(plainBytes, 10), "127.0.0.1:" + e.port}
	return &task{run: func(ctx context.Context) error {
		if out, err := exec.CommandContext(ctx, b.flowProgram(), args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", e.name, err, strings.TrimSpace(string(out)))
		}
		return nil
	}}
}

// clearPlain ends what layPlain began. Not all of it may be there.
func (b *bed) clearPlain(ctx context.Context) {
	for _, e := range b.plain.engines {
		_ = e.run(ctx, "rm", "-f", "pump")
		if strings.HasSuffix(e.name, "podman") {
			_ = e.run(ctx, "system", "reset", "-f")
		} else {
			_ = e.run(ctx, "system", "reset", "--force")
		}
	}
	if b.plain.server != nil {
		_ = b.plain.server.Process.Signal(syscall.SIGKILL)
		_ = b.plain.server.Wait() // it was killed
	}
}
