package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"strata/scripts/buildkit"
)

// Names of engines that limits are told by.
const (
	bareRuntime = "bare runtime"
	exported    = "BuildKit exported"
)

// peer is an engine that strata is compared with. add readies it, with the base in its store; it gives nil where the engine
// was not asked for.
type peer struct {
	name string
	add  func(context.Context) (*engine, error)
}

// peers are all, in the order of the columns.
func (b *bed) peers() []peer {
	return []peer{
		{floor, b.bottom}, {bareRuntime, b.bare}, {"docker", b.docker}, {"podman", b.podman}, {"buildah", b.buildah}, {"podman 5", b.podman5},
		{"BuildKit", b.buildKit}, {exported, b.buildKitExport},
	}
}

// bare is the OCI runtime alone, on an unpacked tree with its own default config.
func (b *bed) bare(ctx context.Context) (*engine, error) {
	path, err := filepath.Abs("bin/strata-runc")
	if err != nil {
		return nil, err
	}
	rootfs := b.bundle() + "/rootfs"
	if err := os.MkdirAll(rootfs, 0o755); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "tar", "-xf", b.base(), "-C", rootfs).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	spec := exec.CommandContext(ctx, path, "spec")
	spec.Dir = b.bundle()
	if out, err := spec.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	if err := editSpec(b.bundle(), "true"); err != nil {
		return nil, err
	}
	e := &engine{path: path, global: []string{"--root", b.run + "/runc"}}
	e.startArgs = func(...string) []string { return []string{"run", "--bundle", b.bundle(), "bench-bare"} }
	return e, e.run(ctx, e.startArgs()...)
}

// bundle is the bare runtime's.
func (b *bed) bundle() string { return b.dir + "/bundle" }

// editSpec says in a bundle's config what the process is, and asks for nothing that this kind of machine refuses.
func editSpec(bundle string, args ...string) error {
	file := filepath.Join(bundle, "config.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, args
	delete(process, "rlimits")
	spec["root"].(map[string]any)["readonly"] = false
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

func (b *bed) podman(ctx context.Context) (*engine, error) {
	path, err := exec.LookPath("podman")
	if err != nil {
		return nil, err
	}
	e, err := b.containers("containers")
	if err != nil {
		return nil, err
	}
	e.path, e.startArgs, e.networks = path, dockerRun, true
	return e, e.run(ctx, "import", b.base(), "docker.io/bench/base:latest")
}

// buildah has podman's store.
func (b *bed) buildah(ctx context.Context) (*engine, error) {
	path, err := exec.LookPath("buildah")
	if err != nil {
		return nil, err
	}
	e, err := b.containers("containers")
	if err != nil {
		return nil, err
	}
	e.path = path
	return e, e.run(ctx, "images")
}

// podman5 is podman in the root of a newer Debian, nil where none is asked for.
func (b *bed) podman5(ctx context.Context) (*engine, error) {
	root := b.options.trixie
	if root == "" {
		return nil, nil
	}
	mounts := []struct{ from, to string }{{root, root}, {"/proc", root + "/proc"}, {"/sys", root + "/sys"}, {"/dev", root + "/dev"}, {b.dir, root + b.dir}}
	for _, m := range mounts {
		if err := os.MkdirAll(m.to, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.from, m.to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	chroot, err := exec.LookPath("chroot")
	if err != nil {
		return nil, err
	}
	e, err := b.containers("containers5")
	if err != nil {
		return nil, err
	}
	e.path, e.startArgs = chroot, dockerRun
	e.global = append([]string{root, "podman"}, e.global...)
	return e, e.run(ctx, "import", b.base(), "docker.io/bench/base:latest")
}

// hide shows an empty directory in memory in the place of one in which engines keep what they know of this machine's networks.
func (b *bed) hide(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil || os.Geteuid() != 0 {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

// containers is podman or buildah with its store in the directory store.
func (b *bed) containers(store string) (*engine, error) {
	conf := b.dir + "/containers.conf"
	if err := os.WriteFile(conf, []byte(podmanConf+"[network]\nnetwork_config_dir = \""+b.dir+"/cni\"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := b.hide("/var/lib/cni"); err != nil {
		return nil, err
	}
	return &engine{
		env:       []string{"CONTAINERS_CONF=" + conf},
		global:    []string{"--root", b.dir + "/" + store, "--runroot", b.run + "/" + store, "--storage-driver", "overlay"},
		buildArgs: func(bu building) []string { return dockerBuild(bu, "--layers", "--network", "host") },
	}, nil
}

// docker is a dockerd of the bed's own, with its networks in the bed's namespace.
func (b *bed) docker(ctx context.Context) (*engine, error) {
	daemon, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, err
	}
	client := "/usr/bin/docker"
	if _, err := os.Stat(client); err != nil {
		if client, err = exec.LookPath("docker"); err != nil {
			return nil, err
		}
	}
	socket := "unix://" + b.dir + "/docker.sock"
	log, err := os.Create(b.dir + "/dockerd.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.dockerd = exec.Command(daemon, "--data-root", b.dir+"/docker", "--exec-root", b.run+"/docker", "-H", socket,
		"-p", b.dir+"/dockerd.pid", "--insecure-registry", farAddr)
	b.dockerd.Stdout, b.dockerd.Stderr = log, log
	if err := b.dockerd.Start(); err != nil {
		return nil, err
	}
	e := &engine{
		path: client, global: []string{"-H", socket}, env: []string{"DOCKER_BUILDKIT=0"},
		buildArgs: func(bu building) []string { return dockerBuild(bu, "--network", "host") },
		startArgs: dockerRun,
		networks:  true,
	}
	for range 100 {
		if err = e.run(ctx, "info"); err == nil {
			return e, e.run(ctx, "import", b.base(), "bench/base")
		}
		time.Sleep(200 * time.Millisecond)
	}
	return nil, fmt.Errorf("dockerd did not come up: %w", err)
}

// buildKit is BuildKit whose results stay in its cache.
func (b *bed) buildKit(ctx context.Context) (*engine, error) { return b.buildctl(ctx) }

// buildKitExport is the same daemon, made to give what it builds as an image with uncompressed layers.
func (b *bed) buildKitExport(ctx context.Context) (*engine, error) {
	return b.buildctl(ctx, "--output", "type=oci,compression=uncompressed,dest="+b.dir+"/buildkit.tar")
}

// startBuildKit starts a buildkitd of the bed's own; its bases come from a registry on loopback.
func (b *bed) startBuildKit(ctx context.Context) error {
	if err := os.MkdirAll(b.dir+"/registry", 0o755); err != nil {
		return err
	}
	b.registry = httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(b.dir+"/registry"))))
	host := strings.TrimPrefix(b.registry.URL, "http://")
	for _, args := range [][]string{{"tag", "bench/base", host + "/bench/base"}, {"push", host + "/bench/base"}} {
		if err := b.strata().run(ctx, args...); err != nil {
			return err
		}
	}
	var err error
	b.buildkit, err = buildkit.Start(ctx, buildkit.Options{
		Programs: b.options.buildkit, Dir: b.dir + "/buildkit", Mirror: host, Domains: []string{"docker.io"},
	})
	return err
}

// buildctl builds with the daemon, which is started for the first that does.
func (b *bed) buildctl(ctx context.Context, flags ...string) (*engine, error) {
	if b.options.buildkit == "" {
		return nil, nil
	}
	if b.buildkit == nil {
		if err := b.startBuildKit(ctx); err != nil {
			return nil, err
		}
	}
	cmd := b.buildkit.Command(ctx)
	return &engine{path: cmd.Path, global: cmd.Args[1:], buildArgs: func(bu building) []string {
		args := append([]string{"build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local", "context=" + bu.dir, "--local", "dockerfile=" + bu.dir}, flags...)
		if bu.noCache {
			args = append(args, "--no-cache")
		}
		if bu.target != "" {
			args = append(args, "--opt", "target="+bu.target)
		}
		return args
	}}, nil
}
