"""The files of tests/reference/data and what others read from them: TensorFlow, Pillow, and Python's csv, tarfile,
gzip and sqlite3."""
import csv
import gzip
import io
import json
import os
import sqlite3
import struct
import tarfile

from values import HERE, np, rng, tf
from PIL import Image

OUT = os.path.join(HERE, "data")
values = {}


def path(name):
    return os.path.join(OUT, name)


def save(name, array):
    np.save(path(name + ".npy"), array)


def example(features):
    def feature(v):
        if isinstance(v, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v]))
        if len(v) and isinstance(v[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=v))
        if len(v) and isinstance(v[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=v))
        return tf.train.Feature(float_list=tf.train.FloatList(value=v))
    return tf.train.Example(features=tf.train.Features(feature={k: feature(v) for k, v in features.items()}))


def tfrecords():
    r = rng("tfrecord")
    rows = []
    for i in range(7):
        x = [float(np.float32(v)) for v in r.normal(size=4)]
        rows.append({"x": x, "label": [i - 2], "name": ("row %d" % i).encode(),
                     "ids": [int(v) for v in r.integers(-2**62, 2**62, size=i)] or [0],
                     "words": [b"a" * k for k in range(i + 1)]})
    data = [example(row).SerializeToString(deterministic=True) for row in rows]
    for name, compression in (("examples.tfrecord", ""), ("examples.tfrecord.gz", "GZIP")):
        with tf.io.TFRecordWriter(path(name), compression) as w:
            for d in data:
                w.write(d)
    text = lambda v: v.decode() if isinstance(v, bytes) else [text(i) for i in v] if isinstance(v, list) else v
    values["examples"] = [{k: text(v) for k, v in row.items()} for row in rows]


def picture(height, width, *key):
    """Smooth, so that files stay small, with an edge in it."""
    r = rng("picture", *key)
    y, x = np.mgrid[0:height, 0:width]
    p = np.stack([127 + 120 * np.sin(x / (3 + c * 2) + y / (5 + c) + r.uniform(0, 6)) for c in range(3)], -1)
    p[height // 3:height // 2, width // 4:] = [250, 20, 90]
    return np.clip(p, 0, 255).astype(np.uint8)


def images():
    rgb = Image.fromarray(picture(37, 45, "rgb"))
    grey = rgb.convert("L")
    files = {
        "420.jpg": (rgb, {"quality": 90, "subsampling": 2}), "422.jpg": (rgb, {"quality": 80, "subsampling": 1}),
        "444.jpg": (rgb, {"quality": 95, "subsampling": 0}), "grey.jpg": (grey, {"quality": 90}),
        "progressive.jpg": (rgb, {"quality": 85, "progressive": True}), "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 90}),
        "rgb.png": (rgb, {}), "grey.png": (grey, {}), "one_bit.png": (grey.convert("1"), {}),
        "palette.png": (rgb.quantize(20), {}), "rgba.png": (rgb.convert("RGBA"), {}),
        "grey_alpha.png": (grey.convert("LA"), {}),
        "palette_transparent.png": (rgb.quantize(20), {"transparency": 3}),
    }
    alpha = np.asarray(files["rgba.png"][0]).copy()
    alpha[..., 3] = np.arange(45)[None] * 5
    files["rgba.png"] = (Image.fromarray(alpha), {})
    for name, (image, options) in files.items():
        image.save(path(name), **options)
    deep = rng("deep").integers(0, 65536, size=(9, 11, 3)).astype(np.uint16)
    with open(path("deep.png"), "wb") as f:
        f.write(tf.io.encode_png(deep).numpy())
    # Interlaced by hand: Pillow cannot write it. Adam7 of a picture of 5 x 5 grey pixels.
    import zlib
    small = np.asarray(grey)[:5, :5]
    raw = b""
    for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        for row in small[y0::dy]:
            if len(row[x0::dx]):
                raw += b"\0" + row[x0::dx].tobytes()
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    with open(path("interlaced.png"), "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 5, 8, 0, 0, 0, 1)) +
                chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
    assert (np.asarray(Image.open(path("interlaced.png"))) == small).all()

    decoded = {}
    for name in sorted(list(files) + ["deep.png", "interlaced.png"]):
        with open(path(name), "rb") as f:
            data = f.read()
        decode = tf.io.decode_jpeg if name.endswith("jpg") else tf.io.decode_png
        decoded[name] = {}
        for channels in (0, 1, 3, 4):
            if (channels == 4 and name.endswith("jpg")) or (name == "cmyk.jpg" and channels < 3):
                continue
            if name == "one_bit.png" and channels == 4:  # TensorFlow fills its alpha with 1, not 255
                continue
            image = decode(data, channels=channels).numpy()
            key = "%s_%d" % (name.replace(".", "_"), channels)
            decoded[name][str(channels)] = key
            save(key, image)
    values["images"] = decoded

    resized = []
    image = picture(37, 45, "rgb")
    for h, w in ((37, 45), (20, 20), (37, 90), (64, 13), (1, 1), (80, 100), (11, 45)):
        for channels in (1, 2, 3, 4):
            source = np.concatenate([image, image[..., :1]], -1)[..., :channels]
            key = "resized_%d_%d_%d" % (h, w, channels)
            if channels in (1, 3) or (h, w) == (20, 20):
                save(key, tf.image.resize(source, (h, w)).numpy().astype(np.float32))
                resized.append({"height": h, "width": w, "channels": channels, "file": key})
    save("resized_from", np.concatenate([image, image[..., :1]], -1))
    values["resized"] = resized
    save("420_accurate", np.asarray(Image.open(path("420.jpg"))))
    with open(path("420.jpg"), "rb") as f:
        save("420_resized", tf.image.resize(tf.io.decode_jpeg(f.read(), channels=3), (22, 30)).numpy())


def tables():
    strange = ["plain", "with, comma", 'a "quoted" word', "two\nlines", "", " blanks ", "trail,", "\u00e9\u00df", '"', ",", "x\r\ny"]
    with open(path("quotes.csv"), "w", newline="", encoding="utf-8") as f:
        w = csv.writer(f, lineterminator="\r\n")
        w.writerow(["text", "n", 'a "name", odd'])
        for i, s in enumerate(strange):
            w.writerow([s, i, s[::-1]])
    with open(path("quotes.csv"), newline="", encoding="utf-8") as f:
        values["quotes"] = list(csv.reader(f))
    r = rng("numbers")
    texts = []
    for _ in range(3000):
        kind = r.integers(0, 8)
        v = r.normal() * 10.0 ** r.integers(-40, 39)
        texts.append([lambda: "%.3f" % r.normal(), lambda: repr(float(r.normal())), lambda: "%.9g" % v, lambda: repr(float(v)),
                      lambda: "%d" % r.integers(-10**9, 10**9), lambda: "%.17g" % float(np.float32(v)),
                      # Just beside the middle of two f32.
                      lambda: repr(float((np.float64(np.float32(1 + r.uniform())) + 2.0**-24) * (1 + r.integers(-1, 2) * 2.0**-52))),
                      lambda: "%.12f" % r.uniform()][kind]())
    texts += ["1e-46", "1e39", "-1e39", "0.1", ".5", "5.", "-0", "+3", "16777217", "16777219", "3.4028235e38", "3.4028236e38",
              "1e-45", "0.000000000000000000000000000000000000000000001", "123456789012345678901234567890", "9007199254740993",
              "1.00000005960464477539", "1.000000059604644775390625", "1.0000000596046447753906251"]
    with open(path("numbers.csv"), "w") as f:
        f.write("x\n" + "\n".join(texts) + "\n")
    with np.errstate(over="ignore"):
        save("numbers_f32", tf.strings.to_number(texts, tf.float32).numpy())
        save("numbers_f64", np.array([float(t) for t in texts]))


def archives():
    files = {"a/one.txt": b"first", "a/one.cls": b"3", "b/" + "long" * 40 + ".bin": bytes(range(256)) * 3, "empty": b"",
             "a/\u00e9.txt": b"accent"}
    for name, kind in (("ustar.tar", tarfile.USTAR_FORMAT), ("pax.tar", tarfile.PAX_FORMAT), ("gnu.tar", tarfile.GNU_FORMAT)):
        with tarfile.open(path(name), "w", format=kind) as t:
            folder = tarfile.TarInfo("a")
            folder.type = tarfile.DIRTYPE
            t.addfile(folder)
            for file, data in files.items():
                if kind == tarfile.USTAR_FORMAT:
                    file = file.replace("long" * 40, "long" * 20 + "/" + "name" * 20)
                info = tarfile.TarInfo(file)
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
    with open(path("pax.tar"), "rb") as f, open(path("pax.tar.gz"), "wb") as g:
        g.write(gzip.compress(f.read(), mtime=0))
    values["tar"] = {k: list(v) for k, v in files.items()}
    for name, change in (("link.tar", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
                         ("hard_link.tar", {"type": tarfile.LNKTYPE, "linkname": "a"}),
                         ("device.tar", {"type": tarfile.CHRTYPE}), ("above.tar", {"name": "a/../../x"}),
                         ("absolute.tar", {"name": "/etc/passwd"})):
        with tarfile.open(path(name), "w", format=tarfile.USTAR_FORMAT) as t:
            info = tarfile.TarInfo("x")
            for k, v in change.items():
                setattr(info, k, v)
            t.addfile(info)


def databases():
    file = path("table.sqlite")
    if os.path.exists(file):
        os.remove(file)
    db = sqlite3.connect(file)
    db.execute("create table flowers (length real, width real, kind text, n integer, raw blob, note)")
    for i in range(9):
        db.execute("insert into flowers values (?, ?, ?, ?, ?, ?)",
                   (i / 4, None if i == 5 else -i / 8, "kind %d" % (i % 3), i * 10**12, bytes([i, 0, 255]), "x"))
    db.execute("delete from flowers where n = 3 * 1000000000000")
    db.execute("create table pairs (a integer primary key, b real) without rowid")
    db.execute("insert into pairs values (5, 0.5), (7, 0.25)")
    db.execute('create table "odd ""name""" (x real)')
    db.execute('insert into "odd ""name""" values (1.5)')
    db.commit()
    db.close()


def make():
    os.makedirs(OUT, exist_ok=True)
    tfrecords()
    images()
    tables()
    archives()
    databases()
    with open(path("values.json"), "w", encoding="utf-8") as f:
        json.dump(values, f, separators=(",", ":"))
        f.write("\n")
