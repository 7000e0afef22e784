package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"

	"strata/internal/engine"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/reference"
)

// strata builds with an engine of its own in this process.
type strata struct {
	engine *engine.Engine
	layers *layer.Store // the same store, for reading layers
	reader reader
	names  []string // of the bases
}

func openStrata(ctx context.Context, root, run string) (*strata, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("this runs as root: a plain user's store cannot have files of any owner")
	}
	if err := linkHelpers(); err != nil {
		return nil, err
	}
	e, err := engine.Open(ctx, engine.Options{Root: root, Run: run})
	if err != nil {
		return nil, err
	}
	layers, err := layer.Open(filepath.Join(root, "layers"), layer.Options{})
	return &strata{engine: e, layers: layers}, err
}

// linkHelpers puts strata's helper programs beside this program, where the engine looks for them. "go run" and "go test" make
// this program in a temporary directory of their own.
func linkHelpers() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	toolbox, err := exec.LookPath("strata-toolbox")
	if err != nil {
		return fmt.Errorf("%w: run make, and put bin on the PATH", err)
	}
	if toolbox, err = filepath.Abs(toolbox); err != nil {
		return err
	}
	for _, name := range []string{"strata-toolbox", "strata-runc", "strata-step"} {
		from, to := filepath.Join(filepath.Dir(toolbox), name), filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(from); err != nil {
			continue // built only where a C compiler is
		}
		if err := os.Symlink(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (s *strata) close() error { return s.engine.Close() }

// bases makes what cases stand on: the built-in bases, what dir/bases/NAME.Dockerfile build, as conformance/NAME, busybox
// where this machine has it, and the images that were given.
func (s *strata) bases(ctx context.Context, dir string, given []string) error {
	for _, name := range []string{"strata.internal/static", "strata.internal/toolbox"} {
		if err := s.base(ctx, name); err != nil {
			return err
		}
	}
	for _, v := range given {
		name, file, _ := strings.Cut(v, "=")
		if err := s.load(ctx, name, file); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "bases", "*.Dockerfile"))
	if err != nil {
		return err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name := "conformance/" + strings.TrimSuffix(filepath.Base(file), ".Dockerfile")
		if err := s.make(ctx, name, string(raw), filepath.Dir(file)); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		return nil
	}
	return s.make(ctx, "busybox", "FROM scratch\nCOPY busybox /bin/\nCOPY busybox /bin/sh\nCMD [\"sh\"]\n", "/bin")
}

// make builds a base.
func (s *strata) make(ctx context.Context, name, dockerfile, dir string) error {
	o := engine.BuildOptions{Dockerfile: []byte(dockerfile), Name: name, Context: dir, Tags: []string{name}}
	if _, err := s.engine.Build(ctx, o); err != nil {
		return fmt.Errorf("base %s: %w", name, err)
	}
	return s.base(ctx, name)
}

func (s *strata) load(ctx context.Context, name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	loaded, err := s.engine.Load(ctx, f, oci.Platform{})
	if err != nil {
		return err
	}
	if len(loaded) != 1 {
		return fmt.Errorf("%s has %d images, want one", file, len(loaded))
	}
	if err := s.engine.Tag(ctx, loaded[0].ID.String(), name); err != nil {
		return err
	}
	return s.base(ctx, name)
}

func (s *strata) base(ctx context.Context, name string) error {
	img, err := s.engine.Resolve(ctx, name, engine.PullNever)
	if err != nil {
		return err
	}
	s.names = append(s.names, name)
	return s.reader.base(img.Config, s.open(ctx))
}

func (s *strata) open(ctx context.Context) openLayer {
	return func(id oci.DiffID) (io.ReadCloser, error) { return s.layers.Tar(ctx, id) }
}

// build builds a case. message is why it failed, where it did.
func (s *strata) build(ctx context.Context, c *testCase) (r result, message string, err error) {
	o, err := c.options()
	if err != nil {
		return nil, "", err
	}
	res, err := s.engine.Build(ctx, o)
	if err != nil {
		return fails(), err.Error(), ctx.Err()
	}
	r, err = s.reader.read(res.Image.Config, s.open(ctx))
	return r, "", err
}

// options are the case's for strata.
func (c *testCase) options() (engine.BuildOptions, error) {
	o := engine.BuildOptions{Context: c.dir, Name: "Dockerfile", BuildArgs: map[string]*string{}, Labels: map[string]string{}, Secrets: map[string][]byte{}, Network: "none", Pull: engine.PullNever}
	err := c.flags(func(flag, value string) error {
		k, v, _ := strings.Cut(value, "=")
		switch flag {
		case "--build-arg":
			o.BuildArgs[k] = &v
		case "--label":
			o.Labels[k] = v
		case "--target":
			o.Target = value
		case "--file":
			o.Name = value
		case "--network":
			o.Network = value
		case "--secret":
			id, file := secret(value)
			raw, err := os.ReadFile(filepath.Join(c.dir, file))
			o.Secrets[id] = raw
			return err
		default:
			return fmt.Errorf("flag %s is not known here", flag)
		}
		return nil
	})
	if err != nil {
		return o, err
	}
	o.File = filepath.Join(c.dir, o.Name)
	o.Dockerfile, err = os.ReadFile(o.File)
	return o, err
}

// secret reads "id=NAME,src=FILE".
func secret(value string) (id, file string) {
	for _, field := range strings.Split(value, ",") {
		switch k, v, _ := strings.Cut(field, "="); k {
		case "id":
			id = v
		case "src":
			file = v
		}
	}
	return id, file
}

// serve pushes the bases to a registry on loopback, each under its repository's name without the domain.
func (s *strata) serve(ctx context.Context) (*httptest.Server, error) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	host := strings.TrimPrefix(server.URL, "http://")
	for _, name := range s.names {
		ref, err := reference.Parse(name)
		if err != nil {
			return server, err
		}
		to := host + "/" + ref.Latest().Path + ":" + ref.Latest().Tag
		if err := s.engine.Tag(ctx, name, to); err != nil {
			return server, err
		}
		if _, err := s.engine.Push(ctx, to, engine.PushOptions{}); err != nil {
			return server, err
		}
	}
	return server, nil
}
