package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"strata/internal/oci"
)

// buildKitVersion is what strata is compared with: the version whose parser strata has.
const buildKitVersion = "v0.33.1"

// buildKit is a daemon of this run's own, with the registry that gives it the bases.
type buildKit struct {
	buildctl string
	address  string
	dir      string
	daemon   *exec.Cmd
	registry *httptest.Server
	strata   *strata
}

// startBuildKit builds BuildKit's programs where they are missing, and starts the daemon in dir.
func startBuildKit(ctx context.Context, cache, dir string, s *strata) (*buildKit, error) {
	bin, err := installBuildKit(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("BuildKit: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &buildKit{buildctl: filepath.Join(bin, "buildctl"), address: "unix://" + dir + "/sock", dir: dir, strata: s}
	if b.registry, err = s.serve(ctx); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	if err := b.start(ctx, filepath.Join(bin, "buildkitd")); err != nil {
		return nil, errors.Join(err, b.stop())
	}
	return b, nil
}

// installBuildKit builds the two programs from their module. "go install" refuses a module that excludes versions, so they
// are built where the module lies.
func installBuildKit(ctx context.Context, cache string) (string, error) {
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(dir, "strata-conformance")
	}
	bin := filepath.Join(cache, "buildkit-"+buildKitVersion)
	if _, err := os.Stat(filepath.Join(bin, "buildctl")); err == nil {
		return bin, nil
	}
	fmt.Fprintf(os.Stderr, "building BuildKit %s into %s\n", buildKitVersion, bin)
	out, err := command(ctx, "go", "mod", "download", "-json", "github.com/moby/buildkit@"+buildKitVersion).Output()
	if err != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	for _, program := range []string{"buildkitd", "buildctl"} { // the one looked for comes last
		cmd := command(ctx, "go", "build", "-o", filepath.Join(bin, program), "./cmd/"+program)
		cmd.Dir = module.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", program, err, out)
		}
	}
	return bin, nil
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	return cmd
}

// start starts the daemon: every registry that a base is named by is the one on loopback.
func (b *buildKit) start(ctx context.Context, program string) error {
	host := strings.TrimPrefix(b.registry.URL, "http://")
	config := fmt.Sprintf("[registry.%q]\n  http = true\n", host)
	for _, domain := range []string{"docker.io", "strata.internal"} {
		config += fmt.Sprintf("[registry.%q]\n  mirrors = [%q]\n", domain, host)
	}
	file := filepath.Join(b.dir, "buildkitd.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	b.daemon = exec.Command(program, "--config", file, "--root", b.dir+"/root", "--addr", b.address,
		"--oci-worker=true", "--containerd-worker=false", "--oci-worker-net=host")
	b.daemon.Stdout, b.daemon.Stderr = log, log
	if err := b.daemon.Start(); err != nil {
		return err
	}
	for range 150 {
		if err = command(ctx, b.buildctl, "--addr", b.address, "debug", "workers").Run(); err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name()) // only to say more
	return fmt.Errorf("buildkitd did not come up: %w: %s", err, text)
}

// stop ends what start and serve started.
func (b *buildKit) stop() error {
	if b.registry != nil {
		b.registry.Close()
	}
	if b.daemon == nil || b.daemon.Process == nil {
		return nil
	}
	_ = b.daemon.Process.Signal(syscall.SIGTERM) // fails when it has ended, and then so does the wait
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.daemon.Wait() // how it ended is of no matter
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = b.daemon.Process.Kill()
		<-ended
	}
	return nil
}

// build builds a case. message is why it failed, where it did.
func (b *buildKit) build(ctx context.Context, c *testCase) (r result, message string, err error) {
	out := filepath.Join(b.dir, c.name+".tar")
	defer os.Remove(out)
	args := []string{"--addr", b.address, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + c.dir, "--local", "dockerfile=" + c.dir,
		// The built-in front end, whatever a "# syntax" line names.
		"--opt", "cmdline=docker/dockerfile:1",
		"--output", "type=oci,compression=uncompressed,dest=" + out}
	err = c.flags(func(flag, value string) error {
		switch flag {
		case "--build-arg", "--label":
			args = append(args, "--opt", strings.TrimPrefix(flag, "--")+":"+value)
		case "--target":
			args = append(args, "--opt", "target="+value)
		case "--file":
			args = append(args, "--opt", "filename="+value)
		case "--network":
			args = append(args, "--opt", "force-network-mode="+value)
		case "--secret":
			id, file := secret(value)
			args = append(args, "--secret", "id="+id+",src="+filepath.Join(c.dir, file))
		default:
			return fmt.Errorf("flag %s is not known here", flag)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var text bytes.Buffer
	cmd := command(ctx, b.buildctl, args...)
	cmd.Stderr = &text
	if err := cmd.Run(); err != nil {
		message = lastError(text.String())
		if strings.Contains(message, "transport:") { // not the case's fault, so no result either
			return nil, "", errors.Join(fmt.Errorf("buildctl: %w: %s", err, message), ctx.Err())
		}
		return fails(), message, ctx.Err()
	}
	r, err = b.read(out)
	return r, "", err
}

// lastError is what stands at the end of buildctl's output.
func lastError(text string) string {
	if i := strings.LastIndex(text, "error: "); i >= 0 {
		return text[i:]
	}
	return text
}

// read makes the result of the image in an OCI archive.
func (b *buildKit) read(file string) (result, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := indexArchive(f)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	var manifest ocispec.Manifest
	if err := a.document("index.json", &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d manifests, want one", file, len(index.Manifests))
	}
	if err := a.document(blobName(index.Manifests[0]), &manifest); err != nil {
		return nil, err
	}
	var img oci.Image
	if err := a.document(blobName(manifest.Config), &img); err != nil {
		return nil, err
	}
	return b.strata.reader.read(&img, func(id oci.DiffID) (io.ReadCloser, error) {
		for i, known := range img.RootFS.DiffIDs {
			if known == id && i < len(manifest.Layers) {
				return a.layer(manifest.Layers[i])
			}
		}
		return nil, fmt.Errorf("layer %s: not in the manifest", id)
	})
}

func blobName(d ocispec.Descriptor) string { return "blobs/sha256/" + d.Digest.Encoded() }

// ociArchive knows where in a tar the members lie.
type ociArchive struct {
	file    *os.File
	members map[string]*io.SectionReader
}

func indexArchive(f *os.File) (*ociArchive, error) {
	a := &ociArchive{file: f, members: map[string]*io.SectionReader{}}
	r := tar.NewReader(f)
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, err
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		a.members[hdr.Name] = io.NewSectionReader(f, at, hdr.Size)
	}
}

func (a *ociArchive) document(name string, v any) error {
	m := a.members[name]
	if m == nil {
		return fmt.Errorf("archive: no %s", name)
	}
	return json.NewDecoder(m).Decode(v)
}

func (a *ociArchive) layer(d ocispec.Descriptor) (io.ReadCloser, error) {
	m := a.members[blobName(d)]
	if m == nil {
		return nil, fmt.Errorf("archive: no %s", blobName(d))
	}
	m = io.NewSectionReader(m, 0, m.Size())
	if strings.HasSuffix(d.MediaType, "gzip") {
		return gzip.NewReader(m)
	}
	return io.NopCloser(m), nil
}
