import java.security.MessageDigest;
import java.util.HexFormat;
import loci.common.DebugTools;
import loci.common.services.ServiceFactory;
import loci.formats.FormatTools;
import loci.formats.ImageReader;
import loci.formats.meta.IMetadata;
import loci.formats.services.OMEXMLService;

/** What Bio-Formats makes of TIFF files, for bench/bioformats.py: a line a file, a line a level. */
public class OpenImage {
  public static void main(String[] paths) throws Exception {
    DebugTools.setRootLevel("ERROR");
    for (String path : paths) {
      IMetadata facts = new ServiceFactory().getInstance(OMEXMLService.class).createOMEXMLMetadata();
      ImageReader reader = new ImageReader();
      reader.setFlattenedResolutions(false);
      reader.setMetadataStore(facts);
      reader.setId(path);
      System.out.println(String.join("\t", "file", path, reader.getFormat(), "" + reader.getSeriesCount(),
          "" + facts.getPixelsPhysicalSizeX(0).value(), "" + facts.getChannelName(0, 0)));
      for (int level = 0; level < reader.getResolutionCount(); level++) {
        reader.setResolution(level);
        int width = reader.getSizeX();
        int height = reader.getSizeY();
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int y = 0; y < height; y += 512) {
          digest.update(reader.openBytes(0, 0, y, width, Math.min(512, height - y)));
        }
        System.out.println(String.join("\t", "level", height + "x" + width,
            FormatTools.getPixelTypeString(reader.getPixelType()), HexFormat.of().formatHex(digest.digest())));
      }
      reader.close();
    }
  }
}
