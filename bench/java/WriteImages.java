import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import loci.common.DebugTools;
import loci.formats.FormatException;
import loci.formats.FormatTools;
import loci.formats.ImageReader;
import loci.formats.ImageWriter;
import loci.formats.tools.ImageConverter;

/**
 * Files that Bio-Formats writes, for bench/bioformats.py.
 *
 * <p>FOLDER SOURCE...: converts each source as bfconvert does, in several forms, reads each file back, and prints a line for
 * it: name, width, height, samples of a plane, whether they are interleaved, type, byte order, planes. What was read
 * stands beside the file as NAME.raw. What Bio-Formats itself cannot write is left out.
 */
public class WriteImages {
  private static final String[][] FORMS = {
    {"lzw.ome.tif", "-compression", "LZW"},
    {"jpeg.ome.tif", "-compression", "JPEG"},
    {"jpeg-tiles.ome.tif", "-compression", "JPEG", "-tilex", "256", "-tiley", "256"},
    {"jp2k.ome.tif", "-compression", "JPEG-2000"},
    {"jp2k-tiles.ome.tif", "-compression", "JPEG-2000", "-tilex", "256", "-tiley", "256"},
    {"jp2k-lossy.ome.tif", "-compression", "JPEG-2000 Lossy", "-tilex", "256", "-tiley", "256"},
    {"zlib-tiles.ome.tif", "-compression", "zlib", "-tilex", "256", "-tiley", "256"},
    {"plain.tif", "-compression", "LZW"},
    {"raw.ome.btf", "-tilex", "256", "-tiley", "256"},
  };

  public static void main(String[] args) throws Exception {
    DebugTools.setRootLevel("ERROR");
    PrintStream out = System.out;
    System.setOut(new PrintStream(OutputStream.nullOutputStream()));
    for (int i = 1; i < args.length; i++) {
      String stem = Path.of(args[i]).getFileName().toString().split("[&.]")[0];
      for (String[] form : FORMS) {
        Path path = Path.of(args[0], stem + "-" + form[0]);
        List<String> options = new ArrayList<>(List.of("-no-upgrade", "-overwrite", "-noflat", "-series", "0"));
        options.addAll(List.of(form).subList(1, form.length));
        options.addAll(List.of(args[i], path.toString()));
        try {
          if (!new ImageConverter().testConvert(new ImageWriter(), options.toArray(new String[0]))) continue;
        } catch (FormatException cannot) {
          Files.deleteIfExists(path);
          continue;
        }
        out.println(path.getFileName() + "\t" + readBack(path));
      }
    }
  }

  private static String readBack(Path path) throws Exception {
    try (ImageReader reader = new ImageReader()) {
      reader.setFlattenedResolutions(false);
      reader.setId(path.toString());
      ByteArrayOutputStream planes = new ByteArrayOutputStream();
      for (int i = 0; i < reader.getImageCount(); i++) planes.write(reader.openBytes(i));
      Files.write(Path.of(path + ".raw"), planes.toByteArray());
      return String.join("\t", "" + reader.getSizeX(), "" + reader.getSizeY(), "" + reader.getRGBChannelCount(),
          "" + reader.isInterleaved(), FormatTools.getPixelTypeString(reader.getPixelType()),
          "" + reader.isLittleEndian(), "" + reader.getImageCount());
    }
  }
}
