package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of /proc/PID/stat on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime is what a process has used so far, all threads, user and system.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name, in parentheses, may hold anything; count from behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("short stat")
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory is one line of /proc/PID/status, in bytes: VmRSS, or VmHWM for the peak.
func memory(pid int, line string) (int64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), line+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in status", line)
}

// diskUse is what the files below dir occupy on disk, in bytes.
func diskUse(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum += info.Sys().(*syscall.Stat_t).Blocks * 512 // st_blocks counts 512 bytes, whatever the file system
		return nil
	})
	return sum, err
}

// datasync makes a file's content durable.
func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }

// syncTime is the median time of a small append with fdatasync in dir.
func syncTime(dir string) (time.Duration, error) {
	file, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	times := make([]time.Duration, 50)
	for i := range times {
		start := time.Now()
		if _, err := file.Write(make([]byte, 700)); err != nil {
			return 0, err
		}
		if err := datasync(file); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	return percentile(times, 50), nil
}

// percentile returns the value that p percent of d do not exceed.
func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[(len(s)-1)*p/100]
}

// median of v; of an even number of values the lower of the middle two.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[(len(s)-1)/2]
}
