package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bed holds the engines, each with a store of its own and the same base image.
type bed struct {
	dir     string
	run     string // running state, of all engines
	rounds  int
	engines []engine
	dockerd *exec.Cmd
}

// engine is one program that does the work.
type engine struct {
	name   string
	path   string
	global []string
	env    []string
}

func (e engine) args(args ...string) []string {
	return append(append([]string{}, e.global...), args...)
}

func (e engine) run(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, e.path, args...)
	cmd.Env = append(os.Environ(), e.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", e.name, strings.Join(args, " "), err, out.String())
	}
	return nil
}

func (b *bed) names() []string {
	names := make([]string, len(b.engines))
	for i, e := range b.engines {
		names[i] = e.name
	}
	return names
}

// runDir gives running state a place in memory, where engines have it by default; else beside their stores.
func runDir(dir string) (string, error) {
	for _, place := range []string{"/run", "/dev/shm"} {
		var st unix.Statfs_t
		if unix.Statfs(place, &st) == nil && st.Type == unix.TMPFS_MAGIC {
			return os.MkdirTemp(place, "sb-")
		}
	}
	return filepath.Join(dir, "run"), nil
}

func (b *bed) setUp(ctx context.Context) error {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	strata := engine{"strata", filepath.Join(bin, "strata"), []string{"--root", b.dir + "/strata", "--run-dir", b.run + "/strata"}, nil}
	if _, err := os.Stat(strata.path); err != nil {
		return fmt.Errorf("%w: run make first", err)
	}
	b.engines = append(b.engines, strata)
	if err := b.base(ctx, strata); err != nil {
		return err
	}
	for _, add := range []func(context.Context) (engine, error){b.bare, b.docker, b.podman, b.buildah} {
		e, err := add(ctx)
		if err != nil {
			fmt.Fprintf(os.Stderr, "left out: %v\n", err)
			continue
		}
		b.engines = append(b.engines, e)
	}
	return b.steps()
}

// base makes a tar of the toolbox base and imports it, so that all engines have the same image of one layer.
func (b *bed) base(ctx context.Context, strata engine) error {
	for _, args := range [][]string{
		{"create", "--name", "seed", "strata.internal/toolbox"},
		{"export", "-o", b.dir + "/base.tar", "seed"},
		{"rm", "seed"},
		{"import", b.dir + "/base.tar", "bench/base"},
	} {
		if err := strata.run(ctx, strata.args(args...)); err != nil {
			return err
		}
	}
	return nil
}

// steps writes the Dockerfile of fifty trivial steps.
func (b *bed) steps() error {
	var df strings.Builder
	df.WriteString("FROM bench/base\n")
	for i := range 50 {
		fmt.Fprintf(&df, "RUN echo %d > /file%d\n", i, i)
	}
	if err := os.MkdirAll(b.dir+"/steps", 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.dir+"/steps/Dockerfile", []byte(df.String()), 0o644)
}

// bare is the OCI runtime alone, on an unpacked tree with its own default config.
func (b *bed) bare(ctx context.Context) (engine, error) {
	path, err := filepath.Abs("bin/strata-runc")
	if err != nil {
		return engine{}, err
	}
	rootfs := b.dir + "/bundle/rootfs"
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return engine{}, err
	}
	if out, err := exec.CommandContext(ctx, "tar", "-xf", b.dir+"/base.tar", "-C", rootfs).CombinedOutput(); err != nil {
		return engine{}, fmt.Errorf("bare runtime: %w: %s", err, out)
	}
	spec := exec.CommandContext(ctx, path, "spec")
	spec.Dir = b.dir + "/bundle"
	if out, err := spec.CombinedOutput(); err != nil {
		return engine{}, fmt.Errorf("bare runtime: %w: %s", err, out)
	}
	if err := editSpec(b.dir + "/bundle/config.json"); err != nil {
		return engine{}, err
	}
	e := engine{"bare runtime", path, []string{"--root", b.run + "/runc"}, nil}
	return e, e.run(ctx, e.args("run", "--bundle", b.dir+"/bundle", "bench-try"))
}

func editSpec(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"true"}
	delete(process, "rlimits")
	if raw, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

// podmanConf avoids what this kind of machine refuses: raising limits, and crun on mixed cgroups.
const podmanConf = `[containers]
default_ulimits = ["nofile=10000:10000","nproc=30000:30000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`

func (b *bed) podman(ctx context.Context) (engine, error) { return b.containers(ctx, "podman") }

func (b *bed) buildah(ctx context.Context) (engine, error) { return b.containers(ctx, "buildah") }

// containers is podman or buildah: one store for both.
func (b *bed) containers(ctx context.Context, name string) (engine, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return engine{}, err
	}
	conf := b.dir + "/containers.conf"
	if err := os.WriteFile(conf, []byte(podmanConf), 0o644); err != nil {
		return engine{}, err
	}
	policy := b.dir + "/policy.json"
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		return engine{}, err
	}
	e := engine{name, path, []string{"--root", b.dir + "/containers", "--runroot", b.run + "/containers", "--storage-driver", "overlay"}, []string{"CONTAINERS_CONF=" + conf}}
	if name == "podman" {
		return e, e.run(ctx, e.args("import", b.dir+"/base.tar", "docker.io/bench/base:latest"))
	}
	return e, e.run(ctx, e.args("images"))
}

// docker is a dockerd of the bed's own, without networks.
func (b *bed) docker(ctx context.Context) (engine, error) {
	daemon, err := exec.LookPath("dockerd")
	if err != nil {
		return engine{}, err
	}
	client := "/usr/bin/docker"
	if _, err := os.Stat(client); err != nil {
		if client, err = exec.LookPath("docker"); err != nil {
			return engine{}, err
		}
	}
	socket := "unix://" + b.dir + "/docker.sock"
	log, err := os.Create(b.dir + "/dockerd.log")
	if err != nil {
		return engine{}, err
	}
	defer log.Close()
	b.dockerd = exec.Command(daemon, "--data-root", b.dir+"/docker", "--exec-root", b.run+"/docker", "-H", socket,
		"-p", b.dir+"/dockerd.pid", "--iptables=false", "--bridge=none")
	b.dockerd.Stdout, b.dockerd.Stderr = log, log
	if err := b.dockerd.Start(); err != nil {
		return engine{}, err
	}
	e := engine{"docker", client, []string{"-H", socket}, []string{"DOCKER_BUILDKIT=0"}}
	for range 100 {
		if err = e.run(ctx, e.args("info")); err == nil {
			return e, e.run(ctx, e.args("import", b.dir+"/base.tar", "bench/base"))
		}
		time.Sleep(200 * time.Millisecond)
	}
	return engine{}, fmt.Errorf("dockerd did not come up: %w", err)
}

func (b *bed) close(ctx context.Context) {
	if b.dockerd != nil && b.dockerd.Process != nil {
		_ = b.dockerd.Process.Signal(os.Interrupt) // fails when it has ended, and then so does the wait
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = b.dockerd.Wait() // how it ended is of no matter
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = b.dockerd.Process.Kill()
		}
	}
	if len(b.engines) > 0 {
		strata := b.engines[0]
		_ = strata.run(ctx, strata.args("rm", "-f", "idle")) // mostly not there any more
	}
	// podman's overlay store keeps a mount on itself, if podman has run.
	_ = exec.Command("umount", "-R", b.dir+"/containers/overlay").Run()
	// docker keeps its containers' network namespace mounted.
	_ = exec.Command("umount", b.run+"/docker/netns/default").Run()
	if err := errors.Join(os.RemoveAll(b.dir), os.RemoveAll(b.run)); err != nil {
		fmt.Fprintln(os.Stderr, "bench: left behind:", err)
	}
}
