import com.google.gson.Gson;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import qupath.lib.io.PathIO;
import qupath.lib.objects.PathDetectionObject;
import qupath.lib.objects.PathObject;
import qupath.lib.objects.PathObjects;
import qupath.lib.objects.hierarchy.PathObjectHierarchy;
import qupath.lib.regions.ImagePlane;
import qupath.lib.roi.ROIs;
import qupath.lib.roi.RoiTools;
import qupath.lib.roi.interfaces.ROI;

/**
 * What QuPath's own reader makes of a file of cells, for bench/qupath.py.
 *
 * <p>CELLS WIDTH HEIGHT REGIONS FOUND: reads CELLS as QuPath's File > Import objects does, lays three annotations over an
 * image of WIDTH x HEIGHT px, asks QuPath which cells lie in each, exports the annotations to REGIONS as QuPath's File >
 * Export objects does, and writes what it saw to FOUND.
 */
public class OpenCells {
  public static void main(String[] args) throws Exception {
    double width = Double.parseDouble(args[1]);
    double height = Double.parseDouble(args[2]);
    List<PathObject> cells = PathIO.readObjects(Path.of(args[0]));
    PathObjectHierarchy hierarchy = new PathObjectHierarchy();
    hierarchy.addObjects(cells);

    List<Map<String, Object>> seen = new ArrayList<>();
    for (PathObject cell : cells) {
      Map<String, Object> facts = new LinkedHashMap<>();
      facts.put("uuid", cell.getID().toString());
      facts.put("is_detection", cell.isDetection());
      facts.put("class", cell.getPathClass().toString());
      facts.put("rgb", cell.getPathClass().getColor() & 0xFFFFFF);
      facts.put("area_px", cell.getROI().getArea());
      facts.put("is_valid", cell.getROI().getGeometry().isValid());
      facts.put("measurements", new HashMap<String, Number>(cell.getMeasurements()));
      seen.add(facts);
    }

    ImagePlane plane = ImagePlane.getDefaultPlane();
    ROI outer = ROIs.createRectangleROI(0.3 * width, 0.3 * height, 0.6 * width, 0.6 * height, plane);
    ROI inner = ROIs.createEllipseROI(0.5 * width, 0.5 * height, 0.2 * width, 0.3 * height, plane);
    List<PathObject> regions = new ArrayList<>();
    addRegion(regions, "corner", ROIs.createRectangleROI(0, 0, 0.4 * width, 0.5 * height, plane));
    addRegion(regions, "ellipse", ROIs.createEllipseROI(0.25 * width, 0.1 * height, 0.5 * width, 0.7 * height, plane));
    addRegion(regions, "with a hole", RoiTools.combineROIs(outer, inner, RoiTools.CombineOp.SUBTRACT));
    Map<String, Integer> counts = new LinkedHashMap<>();
    for (PathObject region : regions) {
      counts.put(region.getName(), hierarchy.getObjectsForROI(PathDetectionObject.class, region.getROI()).size());
    }
    PathIO.exportObjectsAsGeoJSON(Path.of(args[3]), regions, PathIO.GeoJsonExportOptions.FEATURE_COLLECTION);

    Map<String, Object> found = new LinkedHashMap<>();
    found.put("in_hierarchy", hierarchy.getDetectionObjects().size());
    found.put("by_region", counts);
    found.put("cells", seen);
    Files.writeString(Path.of(args[4]), new Gson().toJson(found));
  }

  private static void addRegion(List<PathObject> regions, String name, ROI roi) {
    PathObject region = PathObjects.createAnnotationObject(roi);
    region.setName(name);
    regions.add(region);
  }
}
