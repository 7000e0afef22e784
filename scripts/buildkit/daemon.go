package buildkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Daemon is a running buildkitd with a store of its own.
type Daemon struct {
	buildctl string
	address  string
	process  *exec.Cmd
}

// Options say where a daemon lives and where its bases come from.
type Options struct {
	// Programs is the directory of buildkitd and buildctl.
	Programs string
	// Dir is made, and holds everything of the daemon.
	Dir string
	// Mirror is the host:port of a registry without TLS that serves what is named by the domains.
	Mirror  string
	Domains []string
}

// Start starts a daemon and waits until it answers. It needs root, and runc on the PATH.
func Start(ctx context.Context, o Options) (*Daemon, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("[registry.%q]\n  http = true\n", o.Mirror)
	for _, domain := range o.Domains {
		config += fmt.Sprintf("[registry.%q]\n  mirrors = [%q]\n", domain, o.Mirror)
	}
	file := filepath.Join(o.Dir, "buildkitd.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(o.Dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d := &Daemon{buildctl: filepath.Join(o.Programs, "buildctl"), address: "unix://" + o.Dir + "/sock"}
	d.process = exec.Command(filepath.Join(o.Programs, "buildkitd"), "--config", file, "--root", o.Dir+"/root", "--addr", d.address,
		"--oci-worker=true", "--containerd-worker=false", "--oci-worker-net=host")
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	for range 150 {
		if err = d.Command(ctx, "debug", "workers").Run(); err == nil {
			return d, nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	d.Stop()
	text, _ := os.ReadFile(log.Name()) // only to say more
	return nil, fmt.Errorf("buildkitd did not come up: %w: %s", err, text)
}

// Command is buildctl with args, talking to the daemon.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, d.buildctl, append([]string{"--addr", d.address}, args...)...)
}

// Stop ends the daemon, at once if it does not end by itself. A nil daemon has ended.
func (d *Daemon) Stop() {
	if d == nil {
		return
	}
	_ = d.process.Process.Signal(syscall.SIGTERM) // fails when it has ended, and then so does the wait
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.process.Wait() // how it ended is of no matter
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = d.process.Process.Kill()
		<-ended
	}
}
