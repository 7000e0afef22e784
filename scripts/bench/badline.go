package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	farAddr = "10.99.0.2:5000" // the registry by way of the bad link

	farLayers    = 8
	farLayerSize = 8 << 20
	// fullLayerSize is that of the same row in full.
	fullLayerSize = 128 << 20
	// farTime bounds one pull over the bad link, fullTime one in full.
	farTime  = 10 * time.Minute
	fullTime = time.Hour

	cutSize = 96 << 20 // of what is pulled and cut

	largeSize = 1 << 30 // of one layer whose pull and push are watched for memory
)

// badLineRows are transfers over lines that are slow, lose packets or break, and of what is large.
func badLineRows() []workload {
	full := farRow("full", fullLayerSize, fullTime)
	full.long = true
	return []workload{
		farRow("far", farLayerSize, farTime),
		full,
		{
			name: fmt.Sprintf("pull of %d MB, cut three times: bytes that the registry sends", cutSize>>20), limits: []limit{{bytes: cutSize / 100 * 105}},
			prepare: cutOff, gauge: alone(cutThrice),
		},
		{
			name: "build, push and pull of one layer of 1 GB, largest process", limits: []limit{{bytes: mostMemory}}, gauge: alone(largeTransfer),
		},
	}
}

// farRow is a pull of an image of layers of one size over the bad link.
func farRow(image string, size int64, most time.Duration) workload {
	far := farAddr + "/bench/" + image
	return workload{
		name:   fmt.Sprintf("pull of %d layers of %d MB, 50 ms round trip and 1 %% loss", farLayers, size>>20),
		limits: beside(0.6, "docker", "podman", "podman 5"), rounds: 1, cold: true,
		prepare: func(ctx context.Context, b *bed) error { return b.farAway(ctx, image, size) },
		do: func(_ *bed, e *engine) *task {
			t := e.moving(func(ctx context.Context, _ int) error { return e.forget(ctx, far) }, e.moves("pull", far))
			return within(most, t)
		},
	}
}

// within bounds the time of a task.
func within(most time.Duration, t *task) *task {
	if t == nil {
		return nil
	}
	return &task{before: t.before, run: func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		return t.run(ctx)
	}}
}

// farAway puts an image of several layers that nothing compresses into the registry, and the registry behind the bad link.
func (b *bed) farAway(ctx context.Context, image string, size int64) error {
	if err := b.serveRegistry(ctx); err != nil {
		return err
	}
	if b.link == nil {
		var err error
		if b.link, err = openLink(); err != nil {
			return err
		}
	}
	hosts := filepath.Join(b.config(), "strata/certs.d", farAddr, "hosts.toml")
	if err := os.MkdirAll(filepath.Dir(hosts), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(hosts, []byte("server = \"http://"+farAddr+"\"\n"), 0o644); err != nil {
		return err
	}
	return b.publishRandom(ctx, image, farLayers, size)
}

// publishRandom publishes an image of layers that nothing compresses.
func (b *bed) publishRandom(ctx context.Context, name string, layers int, size int64) error {
	if err := os.MkdirAll(b.context(name), 0o755); err != nil {
		return err
	}
	text := "FROM scratch\n"
	for i := range layers {
		file := fmt.Sprintf("file%d", i)
		if err := writeRandom(filepath.Join(b.context(name), file), byte(i), size); err != nil {
			return err
		}
		text += "COPY " + file + " /\n"
	}
	if err := b.write(name, text+"CMD [\"x\"]\n"); err != nil {
		return err
	}
	err := b.publish(ctx, name)
	return errors.Join(err, os.RemoveAll(b.context(name)))
}

func cutOff(ctx context.Context, b *bed) error {
	if err := b.serveRegistry(ctx); err != nil {
		return err
	}
	return b.publishRandom(ctx, "cut", 1, cutSize)
}

// cutThrice pulls by way of a relay that resets all connections at each quarter, and gives the bytes that came.
func cutThrice(ctx context.Context, b *bed) (int64, error) {
	c, err := newCutter(registryAddr, cutSize/4, cutSize/2, cutSize/4*3)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, farTime)
	defer cancel()
	err = b.strata().run(ctx, "pull", "-q", c.listener.Addr().String()+"/bench/cut")
	sent, left := c.close()
	if err == nil && left > 0 {
		err = fmt.Errorf("%d cuts were not made", left)
	}
	return sent, err
}

// largeTransfer is the most that the build, the push and the pull of one large layer have resident.
func largeTransfer(ctx context.Context, b *bed) (int64, error) {
	if err := b.serveRegistry(ctx); err != nil {
		return 0, err
	}
	if err := b.publishRandom(ctx, "huge", 1, largeSize); err != nil {
		return 0, err
	}
	err := b.strata().run(ctx, "pull", "-q", registryAddr+"/bench/huge")
	return b.strata().peak, err
}
