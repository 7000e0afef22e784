package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/scripts/buildkit"
)

// bed holds the engines, each with a store of its own and the same base image, bench/base.
type bed struct {
	dir      string
	run      string // running state, of all engines
	rounds   int
	options  options
	engines  []*engine // strata is the first
	dockerd  *exec.Cmd
	bridged  *exec.Cmd // a dockerd with networks
	lands    map[*engine]*land
	plain    plain
	buildkit *buildkit.Daemon
	registry *httptest.Server // on loopback, where BuildKit's bases come from
	// distribution is the registry of pulls and pushes.
	distribution *exec.Cmd
	link         *link // bad, once a row wants it
	imported     bool  // what is pushed is in all stores
}

// strata is the engine that all others are compared with.
func (b *bed) strata() *engine { return b.engines[0] }

func (b *bed) setUp(ctx context.Context) error {
	if err := b.privately(); err != nil {
		return err
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	if err := b.addStrata(ctx, filepath.Join(bin, "strata")); err != nil {
		return err
	}
	for _, p := range b.peers() {
		if b.options.beside != "" && !slices.Contains(strings.Split(b.options.beside, ","), p.name) {
			continue
		}
		e, err := p.add(ctx)
		switch {
		case err != nil:
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", p.name, err)
		case e != nil:
			e.name = p.name
			b.engines = append(b.engines, e)
		}
	}
	return nil
}

// privately readies the namespaces that root has here: running state in memory, where engines have it by default, and
// the loopback interface.
func (b *bed) privately() error {
	if err := os.MkdirAll(b.run, 0o755); err != nil || os.Geteuid() != 0 {
		return err
	}
	if err := unix.Mount("tmpfs", b.run, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	return nil
}

// addStrata adds strata and makes the base: a tar of the toolbox, imported, so that all engines have an image of one layer.
func (b *bed) addStrata(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: run make first", err)
	}
	e := &engine{
		name: "strata", path: path, global: []string{"--root", b.dir + "/strata", "--run-dir", b.run + "/strata"},
		env: []string{"XDG_CONFIG_HOME=" + b.config()},
		buildArgs: func(bu building) []string {
			return dockerBuild(bu, "-q", "--network", "host")
		},
		startArgs: dockerRun,
		networks:  true,
	}
	b.engines = append(b.engines, e)
	for _, args := range [][]string{
		{"create", "--name", "seed", "strata.internal/toolbox"},
		{"export", "-o", b.base(), "seed"},
		{"rm", "seed"},
		{"import", b.base(), "bench/base"},
	} {
		if err := e.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// config is the directory of strata's configuration.
func (b *bed) config() string { return b.dir + "/config" }

// base is the tar of the base image's tree.
func (b *bed) base() string { return b.dir + "/base.tar" }

func dockerRun(args ...string) []string {
	return append([]string{"run", "--rm", "--network", "none", "bench/base"}, args...)
}

// dockerBuild is docker's command line of a build, with further flags.
func dockerBuild(bu building, flags ...string) []string {
	args := append([]string{"build", "-t", "bench/" + filepath.Base(bu.dir)}, flags...)
	if bu.noCache {
		args = append(args, "--no-cache")
	}
	if bu.target != "" {
		args = append(args, "--target", bu.target)
	}
	return append(args, bu.dir)
}

// close ends the daemons and the containers. The directory goes with the process outside.
func (b *bed) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	b.clearPlain(ctx)
	b.clearNetworks(ctx)
	stop(b.dockerd)
	stop(b.distribution)
	b.buildkit.Stop()
	if b.link != nil {
		_ = b.link.close() // it goes with the process at the latest
	}
	if b.registry != nil {
		b.registry.Close()
	}
	if len(b.engines) > 0 {
		_ = b.strata().run(ctx, "rm", "-f", "idle") // mostly not there any more
	}
}

// stop ends a daemon; nil has ended.
func stop(daemon *exec.Cmd) {
	if daemon == nil || daemon.Process == nil {
		return
	}
	_ = daemon.Process.Signal(os.Interrupt) // fails when it has ended, and then so does the wait
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = daemon.Wait() // how it ended is of no matter
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = daemon.Process.Kill()
		<-done
	}
}

// write makes a build context of nothing but a Dockerfile.
func (b *bed) write(name, dockerfile string) error {
	if err := os.MkdirAll(b.context(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.context(name), "Dockerfile"), []byte(dockerfile), 0o644)
}

// context is the directory of a build context.
func (b *bed) context(name string) string { return filepath.Join(b.dir, "contexts", name) }
